# SPDX-License-Identifier: Apache-2.0
"""Evolution over A2C: each actor perturbs the params, trains them by a whole A2C, and returns one number."""

import dataclasses

import numpy as np

from engines.toys import a2c
from engines.toys.parts import keep
from shoal.engines import phase, system

MUST_CROSS = {"RETURN actor>learner", "PARAM learner>actor", "TRAJ actor>learner"}  # the last one inside A2C
MUST_NEVER_CROSS = {"GRAD", "TRANS"}


def evaluate(index, config, parts, params, returns):
    inner = dataclasses.replace(config, updates=config.inner_updates)
    generation = 0
    while True:
        p, version = params.pull(at_least=generation)
        trained = a2c.run(inner, parts, phase("perturb", parts.perturb, p, index, generation))
        returns.put((parts.score(trained), generation), version)
        generation += 1


def improve(parts, p, returns):
    """Noise weighted by how good it was; the learner makes the noise anew instead of receiving it."""
    scores = np.array([score for score, _ in returns])
    noise = [parts.perturb(p, index, generation) - p for index, (_, generation) in enumerate(returns)]
    return p + 0.1 * np.mean((scores - scores.mean())[:, None] * np.array(noise), axis=0)


def run(config, parts, state=None, visit=keep):
    p = parts.init() if state is None else state
    with system("es", "learner") as s:
        params = s.store("PARAM", "learner", p)
        returns = s.channel("RETURN", "actor", "learner", config.slots, versions=params)
        s.spawn("actor", config.actors, evaluate, config, parts, params, returns)
        for generation in range(config.inner_updates):
            p = phase("update", improve, parts, p, returns.get(config.actors, by_sender=True))
            params.publish(p := visit(generation, p))
    return p
