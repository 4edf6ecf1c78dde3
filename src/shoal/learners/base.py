# SPDX-License-Identifier: Apache-2.0
"""What every learner is: a state that can be saved, and pure functions over it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from shoal.trees import tree_map
from shoal.types import Array, PyTree, Trajectory


class LearnerState(NamedTuple):
    """All that learning carries from one update to the next."""

    params: Array
    """[P] float32"""
    optimiser: Any
    """optimiser moments, a PyTree of arrays"""
    updates: int
    """optimiser steps so far"""
    env_steps: int
    """valid agent steps received so far"""
    version: int
    """publishes so far"""


class Learner(NamedTuple):
    """Functions over LearnerState. `update` returns only when the device has finished, so phases time real work."""

    init: Callable[[int], LearnerState]
    """seed -> first state"""
    update: Callable[[LearnerState, list[Trajectory]], tuple[LearnerState, dict[str, float]]]
    """(state, trajectories) -> (state, metrics); raises NonFiniteError and keeps nothing where a number overflowed"""
    acting: Callable[[LearnerState], np.ndarray]
    """a host copy [P] of the params, safe to publish: nothing that happens to the state later can change it"""
    gradient: Callable[[Array, list[Trajectory]], tuple[np.ndarray, dict[str, float]]] | None = None
    """(params [P], trajectories) -> (gradient [P] of the mean loss over valid rows, metrics), neither clipped nor
    applied: for workers that send gradients instead of trajectories. None where one update takes several steps"""
    devices: int = 1
    """devices over which every gradient is summed"""
    gradients: Callable[[Array, list[Trajectory], int], Iterator[Callable]] | None = None
    """(params [P], trajectories, draw) -> what an update takes one after another: each is params [P] -> (gradient [P],
    metrics), neither clipped nor applied. `draw` decides how a batch is cut. For learners that share params"""
    share: Callable[[Array, Any], Any] | None = None
    """(params [P], lesson) -> `agents.lessons.Share`, a worker's part of a gradient"""
    pool: Callable[..., tuple[LearnerState, dict[str, float]]] | None = None
    """(state, shares, "policy" or "critic") -> (state, metrics): the step of their sum"""
    replay_gradient: Callable[..., tuple[np.ndarray, np.ndarray, dict[str, float]]] | None = None
    """(params [P], target params [P], minibatch [N, ...], number that decides the loss's noise) -> (gradient [P],
    errors [N], metrics), neither clipped nor applied"""
    learn: Callable[[LearnerState, Any, int], tuple[LearnerState, Array, dict[str, float]]] | None = None
    """(state, K minibatches [K, N, ...] of a replay memory, env steps that it received) -> (state, errors [K, N]
    float32 for new priorities, metrics): a step on each. None for learners from trajectories"""


def join(batch: list[Trajectory]) -> Trajectory:
    """Trajectories side by side along B, in the order given; a single one is passed through uncopied.

    Check: joining the two halves of a trajectory's environments gives the trajectory.
    """
    if len(batch) == 1:
        return batch[0]
    columns = zip(Trajectory._fields, zip(*batch, strict=True), strict=True)
    return Trajectory(*(_beside(parts, 0 if name in WITHOUT_TIME else 1) for name, parts in columns))


WITHOUT_TIME = ("version", "memory")
"""fields of a trajectory whose first axis is that of environments"""


def _beside(parts: tuple[PyTree, ...], axis: int) -> PyTree:
    return tree_map(lambda *arrays: np.concatenate(arrays, axis), *parts)


def env_steps_in(batch: list[Trajectory]) -> int:
    """Valid agent steps, reset rows left out."""
    return sum(int(np.count_nonzero(item.valid)) for item in batch)
