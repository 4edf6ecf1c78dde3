# SPDX-License-Identifier: Apache-2.0
"""Gorila: actors fill a replay, several learners draw from it and push gradients to a sharded parameter server.

Gradients that are too old are thrown away by the server. The target copy is refreshed by the server's version.
"""

from engines.toys.a3c import RATE, sgd
from engines.toys.parts import Replay, keep
from shoal.engines import phase, select, system

MUST_CROSS = {
    "TRANS actor>replay",
    "BATCH replay>learner",
    "GRAD learner>parameter_server",
    "PARAM parameter_server>actor",
    "PARAM parameter_server>learner",
}
MUST_NEVER_CROSS = {"TRAJ"}


def act(index, config, parts, params, transitions):
    count = 0
    while True:
        p, _ = params.pull()
        transitions.put(phase("unroll", parts.unroll, p, index, count))
        count += 1


def remember(index, config, parts, transitions, batches):
    replay = Replay(parts.seed)
    while True:
        wires = [batches.can_put if 2 * replay.added - replay.drawn >= config.batch else transitions.can_get]
        if wires[select(*wires)] is transitions.can_get:
            phase("add", replay.add, transitions.get()[0])
        else:
            batches.put(phase("sample", replay.sample, config.batch))


def learn(index, config, parts, params, batches):
    target, refreshed = params.pull()
    while True:
        p, version = params.pull()
        if version - refreshed >= 5:
            target, refreshed = p, version
        _, data = batches.get()[0][0]
        params.push(phase("gradient", parts.gradient, 0.5 * (p + target), data), version, RATE)


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("gorila", "parameter_server") as s:
        params = s.vector("parameter_server", p, sgd, shards=2, moments=1, source="learner", max_lag=4)
        transitions = s.channel("TRANS", "actor", "replay", config.slots)
        batches = s.channel("BATCH", "replay", "learner", config.slots)
        s.spawn("actor", config.actors, act, config, parts, params, transitions)
        s.spawn("replay", 1, remember, config, parts, transitions, batches)
        s.spawn("learner", 2, learn, config, parts, params, batches)
        return params.pull(at_least=config.updates)[0]
