# SPDX-License-Identifier: Apache-2.0
"""AlphaZero, gated: self-play asks an inference role under its search; an evaluator decides which params play.

A search is a loop of leaf phases with requests between them: leaves are sent as several tickets at once (virtual
loss keeps them apart), and backed up as the answers come. So no primitive is used inside a phase.
"""

from engines.toys.parts import Replay, keep
from shoal.engines import phase, select, system

MUST_CROSS = {
    "OBS actor>inference",
    "ACT inference>actor",
    "GAME actor>replay",
    "BATCH replay>learner",
    "PARAM learner>inference",
    "PARAM learner>evaluator",
    "GAME evaluator>learner",
}
MUST_NEVER_CROSS = {"GRAD", "TRANS", "PARAM actor"}
MOVES, LEAVES = 3, 2


def play(index, config, parts, network, games):
    count = 0
    while True:
        positions, values = [], []
        for _ in range(MOVES):
            leaves = phase("select", parts.rng, index, count).normal(size=(LEAVES, 8))
            tickets = [network.send(leaf) for leaf in leaves]
            values.append(phase("backup", sum, [network.result(ticket) for ticket in tickets]))
            positions.append(leaves[0])
            count += 1
        games.put(parts.join(positions, values))


def infer(index, config, parts, network, playing):
    while True:
        requests = network.take()
        network.reply(requests, phase("evaluate", parts.act, playing.pull()[0], [r.item for r in requests]))


def remember(index, config, parts, games, batches):
    replay = Replay(parts.seed)
    while True:
        wires = [batches.can_put if 2 * replay.added - replay.drawn >= config.batch else games.can_get]
        if wires[select(*wires)] is games.can_get:
            phase("add", replay.add, games.get()[0])
        else:
            batches.put(phase("sample", replay.sample, config.batch))


def judge(index, config, parts, candidates, results):
    version = 0
    while True:
        p, version = candidates.pull(at_least=version + 1)
        results.put((phase("match", parts.score, p), p), version)


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    best = parts.score(p)
    with system("alphazero", "learner") as s:
        playing = s.store("PARAM", "learner", p, target="inference")
        candidates = s.store("PARAM", "learner", p, target="evaluator")
        network = s.service("OBS", "ACT", "actor", "inference", batch=LEAVES * config.actors, deadline_s=0.01)
        games = s.channel("GAME", "actor", "replay", config.slots)
        batches = s.channel("BATCH", "replay", "learner", config.slots)
        results = s.channel("GAME", "evaluator", "learner", config.slots, versions=candidates)
        s.spawn("actor", config.actors, play, config, parts, network, games)
        s.spawn("inference", 1, infer, config, parts, network, playing)
        s.spawn("replay", 1, remember, config, parts, games, batches)
        s.spawn("evaluator", 1, judge, config, parts, candidates, results)
        update, judged = 0, 0
        while update < config.updates:
            wires = [results.can_get, batches.can_get]
            if wires[select(*wires)] is results.can_get:
                score, candidate = results.get()[0]
                judged += 1
                if score > best:  # promoted: from now on it plays
                    best = score
                    playing.publish(candidate)
            else:
                p = phase("update", parts.update, p, [game for _, game in batches.get()[0]])
                candidates.publish(p := visit(update, p))
                update += 1
        if not judged:  # an evaluator that is slow to begin is waited for
            results.get()
    return p
