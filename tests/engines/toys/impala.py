# SPDX-License-Identifier: Apache-2.0
"""IMPALA: nobody waits but for a full queue; lag above 0 and bounded by queue and actors."""

from engines.toys.parts import keep
from shoal.engines import phase, system

MUST_CROSS = {"TRAJ actor>learner", "PARAM learner>actor"}
MUST_NEVER_CROSS = {"GRAD", "TRANS", "OBS"}


def act(index, config, parts, params, trajectories):
    count = 0
    while True:
        p, version = params.pull()
        trajectories.put(phase("unroll", parts.unroll, p, index, count), version)
        count += 1


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("impala", "learner") as s:
        params = s.store("PARAM", "learner", p)
        trajectories = s.channel("TRAJ", "actor", "learner", config.slots, versions=params)
        s.spawn("actor", config.actors, act, config, parts, params, trajectories)
        for update in range(config.updates):
            p = phase("update", parts.update, p, trajectories.get(config.batch))
            params.publish(p := visit(update, p))
    return p
