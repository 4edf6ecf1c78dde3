# SPDX-License-Identifier: Apache-2.0
"""Ape-X: transitions with priorities into a replay role, batches to the learner, new priorities back.

The replay selects over three wires. Its rate limit is which of them it offers: so many batches for what was added.
"""

from engines.toys.parts import Replay, keep
from shoal.engines import phase, select, system

MUST_CROSS = {"TRANS actor>replay", "BATCH replay>learner", "PRIO learner>replay", "PARAM learner>actor"}
MUST_NEVER_CROSS = {"GRAD", "TRAJ"}
RATIO = 2
"""items drawn for each item added"""


def act(index, config, parts, params, transitions):
    count = 0
    while True:
        if count % 3 == 0:
            p, _ = params.pull()
        data = phase("unroll", parts.unroll, p, index, count)
        transitions.put((data, float(abs(data["reward"]).mean())))
        count += 1


def remember(index, config, parts, transitions, batches, priorities):
    replay = Replay(parts.seed)
    while True:
        owed = RATIO * replay.added - replay.drawn
        wires = [priorities.can_get, batches.can_put if owed >= config.batch else transitions.can_get]
        wire = wires[select(*wires)]
        if wire is priorities.can_get:
            replay.prioritise(*priorities.get()[0])
        elif wire is transitions.can_get:
            phase("add", replay.add, *transitions.get()[0])
        else:
            batches.put(phase("sample", replay.sample, config.batch))


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("apex", "learner") as s:
        params = s.store("PARAM", "learner", p)
        transitions = s.channel("TRANS", "actor", "replay", config.slots)
        batches = s.channel("BATCH", "replay", "learner", config.slots)
        priorities = s.channel("PRIO", "learner", "replay", config.slots, when_full="drop_oldest")
        s.spawn("actor", config.actors, act, config, parts, params, transitions)
        s.spawn("replay", 1, remember, config, parts, transitions, batches, priorities)
        for update in range(config.updates):
            keys, batch = zip(*batches.get()[0], strict=True)
            p = phase("update", parts.update, p, list(batch))
            priorities.put((list(keys), [1.0 + key % 3 for key in keys]))
            params.publish(p := visit(update, p))
    return p
