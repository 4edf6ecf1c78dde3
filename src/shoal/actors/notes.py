# SPDX-License-Identifier: Apache-2.0
"""What a worker tells the run of a trajectory that it keeps to itself, where gradients cross and trajectories don't."""

from collections.abc import Mapping

import numpy as np

from shoal.engines import me, note
from shoal.types import Trajectory


def note_learnt(trajectory: Trajectory, lag: int | list[int], metrics: Mapping[str, float]) -> None:
    """Note finished episodes, lag in versions and metrics of an update that this worker made a gradient for.

    Args:
      lag: version of the shared params when the gradient was applied, minus that of the params that acted; of all its
        gradients, where one trajectory made several.

    Check: every finished episode is noted once, in order of time.
    """
    ended = ~np.isnan(trajectory.episode_return)
    pairs = zip(trajectory.episode_return[ended].tolist(), trajectory.episode_length[ended].tolist(), strict=True)
    _tell([list(pair) for pair in pairs], lag, metrics)


def note_episodes(trajectory: Trajectory) -> None:
    """Note finished episodes only, where rows of the trajectory go to a replay memory.

    Check: every finished episode is noted once, in order of time.
    """
    note_learnt(trajectory, [], {})


def note_gradient(lag: int | list[int], metrics: Mapping[str, float]) -> None:
    """Note lag and metrics of a gradient, where its maker has no trajectory."""
    _tell([], lag, metrics)


def _tell(episodes: list[list[float]], lag: int | list[int], metrics: Mapping[str, float]) -> None:
    note(learnt={"worker": me().index, "episodes": episodes, "lag": lag, "metrics": dict(metrics)})
