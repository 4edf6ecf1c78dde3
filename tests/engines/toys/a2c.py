# SPDX-License-Identifier: Apache-2.0
"""A2C: actors wait for the update's params, the learner waits for every actor. TRAJ one way, PARAM the other, lag 0."""

from engines.toys.parts import keep
from shoal.engines import phase, system

MUST_CROSS = {"TRAJ actor>learner", "PARAM learner>actor"}
MUST_NEVER_CROSS = {"GRAD", "TRANS", "OBS"}


def act(index, config, parts, params, trajectories):
    count = 0
    while True:
        p, version = params.pull(at_least=count)
        trajectories.put(phase("unroll", parts.unroll, p, index, count), version)
        count += 1


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("a2c", "learner") as s:
        params = s.store("PARAM", "learner", p)
        trajectories = s.channel("TRAJ", "actor", "learner", config.slots, versions=params)
        s.spawn("actor", config.actors, act, config, parts, params, trajectories)
        for update in range(config.updates):
            p = phase("update", parts.update, p, trajectories.get(config.actors, by_sender=True))
            params.publish(p := visit(update, p))
    return p
