# SPDX-License-Identifier: Apache-2.0
"""How a worker explores: one number that follows the flat params it acts and learns with, [params | number].

Workers of A3C differ in it, so that together they see more of the environment than copies of one would (Mnih et al.
2016, sections 4 and 5.1). It is a function of seed and worker alone, drawn from a stream of each worker's own.
"""

from typing import Any

import numpy as np

from shoal import seeds

FINAL_EPSILONS, SHARES = (0.1, 0.01, 0.5), (0.4, 0.3, 0.3)
"""final shares of random actions, and the probabilities with which a worker has each of them"""


def drawn(seed: int, stream: str, index: int) -> float:
    """A worker's own number in (0, 1)."""
    return float(seeds.uniforms(seed, stream, np.array([index]), 0, 1, 1)[0, 0, 0])


def final_epsilon(seed: int, index: int) -> float:
    """The share of random actions that a worker's exploration falls to.

    Check: over many workers each value has its share.
    """
    return FINAL_EPSILONS[int(np.searchsorted(np.cumsum(SHARES), drawn(seed, "epsilon", index)))]


def epsilon_at(final: float, env_steps: int, over: int) -> float:
    """Falls on a line from 1 to `final` over the first `over` env_steps.

    Check: half way it is the mean of both.
    """
    return 1.0 - (1.0 - final) * min(1.0, env_steps / over)


def entropy_cost_of(cost: float, spread: float, seed: int, index: int) -> float:
    """A worker's weight of the entropy bonus: log-uniform in [cost / spread, cost * spread].

    Check: with spread 1 all workers have `cost`.
    """
    return cost * spread ** (2.0 * drawn(seed, "entropy", index) - 1.0)


def followed_by(params: np.ndarray, number: float, *more: Any) -> np.ndarray:
    """[params | number | more] as one flat float32 vector."""
    return np.concatenate([params, np.array([number], np.float32), *more])
