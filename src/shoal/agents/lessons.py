# SPDX-License-Identifier: Apache-2.0
"""What workers of a policy gradient hand to whoever makes the gradient, and what comes of it. NumPy only.

Losses are sums over valid rows, so shares of workers with unequal numbers of rows add up to the sum over all of them.
"""

from typing import Any, NamedTuple

import numpy as np

from shoal.types import Array, Trajectory


class PolicyLesson(NamedTuple):
    """For the policy's gradient."""

    trajectory: Trajectory
    returns: Array
    """[T, B] discounted rewards to go, from which the baseline is taken; () where the critic says what to expect"""


class CriticLesson(NamedTuple):
    """For the critic's gradient."""

    trajectory: Trajectory


class Share(NamedTuple):
    """A worker's part of a gradient."""

    grad: Array
    """[P] of the sum of losses over valid rows"""
    rows: int
    """valid rows"""
    returns: float
    """sum over these rows of rewards to go, 0 where there are none"""
    losses: dict[str, float]
    """sums over these rows, by name of metric"""


def rewards_to_go(config: Any, trajectory: Trajectory) -> Array:
    """Discounted sums of the rewards from each row on to the end of its episode or of the trajectory, [T, B] float32.

    Rewards are as learning sees them: scaled, then clipped. Sutton & Barto 2018, section 13.3: G_t.

    Check: with discount 1 the first row of an episode has its return.
    """
    reward = np.asarray(trajectory.reward) * np.float32(config.reward_scale)
    if config.reward_clip is not None:
        reward = np.clip(reward, -np.float32(config.reward_clip), np.float32(config.reward_clip))
    goes_on = ~np.logical_or(trajectory.terminated, trajectory.truncated) & np.asarray(trajectory.valid)
    sums, after = np.empty_like(reward), np.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        after = sums[t] = reward[t] + np.float32(config.discount) * np.where(goes_on[t], after, np.float32(0))
    return sums
