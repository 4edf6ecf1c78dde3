# SPDX-License-Identifier: Apache-2.0
"""Population-based training over A2C: members train, report fitness, and the worst take the best's weights.

A member's turn to change comes inside its inner run, by `visit`. The population's choice travels on its own store.
"""

from engines.toys import a2c
from shoal.engines import phase, system

MUST_CROSS = {"FITNESS member>population", "WEIGHTS member>member", "TRAJ actor>learner", "PARAM learner>actor"}
MUST_NEVER_CROSS = {"GRAD", "TRANS"}
EVERY = 2
"""updates between reports"""


def train(index, config, parts, fitness, choice, weights):
    def exploit(update, p):
        if update % EVERY:
            return p
        weights[index].publish(p)
        fitness.put((index, parts.score(p)))
        leader = choice.pull()[0].get(index)
        if leader is None:
            return p
        return phase("explore", parts.perturb, weights[leader].pull()[0], index, update)

    a2c.run(config, parts, phase("init", parts.perturb, parts.init(), index, 0), exploit)


def run(config, parts, state=None, visit=None):
    scores = {}
    with system("pbt", "population") as s:
        fitness = s.channel("FITNESS", "member", "population", config.slots)
        choice = s.store("CHOICE", "population", {}, target="member")
        weights = [s.store("WEIGHTS", "member", parts.init(), target="member") for _ in range(config.actors)]
        s.spawn("member", config.actors, train, config, parts, fitness, choice, weights)
        for _ in range(config.updates // EVERY * config.actors):
            index, score = fitness.get()[0]
            scores[index] = score
            best, worst = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
            choice.publish({worst: best} if best != worst else {})
    return sorted(scores.items())
