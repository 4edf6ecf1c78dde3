# SPDX-License-Identifier: Apache-2.0
"""The data plane of Rapid, which trained OpenAI Five, on the engines' primitives: one optimiser and its games.

    games (n) --TRAJ: segments of samples--> [experience buffer] --minibatches--> optimiser
        ^                                                                            |
        +------------------------PARAM, every so many gradient steps-----------------+

Games never wait: what the buffer has no room for pushes out the oldest. The optimiser waits only until its buffer
holds a minibatch, and draws samples at random. A sample is a short run of policy steps; staleness is the version
being optimised minus the version that made the sample, counted whenever a sample is drawn.

OpenAI et al. 2019 (arXiv 1912.06680), section 3.2 and figure 8. Inference is part of a game's pace here: the GPUs that
it ran on poll for params, so that a game follows new params in the middle of a segment (`refresh="sample"`).
"""

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from shoal.engines import phase, system


class Config(NamedTuple):
    """Rates, in samples and gradient steps."""

    games: int
    segment: int
    """samples that a game sends at once"""
    minibatch: int
    """samples of a gradient step"""
    buffer: int
    """samples that are kept, the newest ones"""
    updates: int
    publish_every: int = 32
    """gradient steps"""
    refresh: Literal["sample", "segment"] = "sample"
    """when a game takes up new params"""
    seed: int = 0


def optimise(config: Config, visit: Callable[[np.ndarray, int], None]) -> None:
    """Take all gradient steps; call `visit` with the staleness of each drawn sample, and how many samples came in."""
    rng = np.random.default_rng([config.seed, config.games])
    buffer: deque[int] = deque(maxlen=config.buffer)
    with system("rapid", "optimiser") as s:
        params = s.store("PARAM", "optimiser", 0.0)
        segments = s.channel("TRAJ", "game", "optimiser", config.games, "drop_oldest", versions=params)
        s.spawn("game", config.games, play, config, params, segments)
        came = 0
        for update in range(1, config.updates + 1):
            while segments.can_get.ready() or len(buffer) < config.minibatch:
                (made_by,) = segments.get()
                buffer.extend(made_by)
                came += len(made_by)
            drawn = rng.choice(np.array(buffer), config.minibatch, replace=False)
            phase("gradient", int)
            visit(params.version - drawn, came)
            if update % config.publish_every == 0:
                params.publish(0.0)


def play(index, config, params, segments):
    """Play for ever, and hand over each segment as the versions that made its samples. Games begin out of step."""
    rng = np.random.default_rng([config.seed, index])
    length = int(rng.integers(1, config.segment + 1))
    while True:
        made_by = []
        _, version = params.pull()
        for _ in range(length):
            if config.refresh == "sample":
                _, version = params.pull()
            made_by.append(version)
            phase("sample", int)
        segments.put(made_by, made_by[0])
        length = config.segment
