# SPDX-License-Identifier: Apache-2.0
"""How long episodes last, and when those of environments that do nothing end. Needs no JAX.

steps and how much they differ --> a course of episodes for every environment --> which rows end, which only reset
"""

from typing import NamedTuple

import numpy as np

from shoal.types import Array

CYCLE = 64
"""episodes after which an environment's lengths come again"""
FEW = 8
"""episodes that tell how much they differ, at least"""


class Lengths(NamedTuple):
    """Of episodes."""

    mean: int = 50
    """steps, after which comes one that only resets"""
    spread: float = 0.0
    """deviation of their logarithm, as if log-normal"""


USUAL = Lengths()


def spread_of_lengths(lengths: list[int]) -> float:
    """Deviation of the logarithm of episodes' lengths; 0 of too few to tell.

    Check: of log-normal lengths, the deviation that they were drawn with.
    """
    return float(np.std(np.log(lengths))) if len(lengths) >= FEW else 0.0


class Course:
    """Episodes of some environments, one after the other.

    Even ones are staggered, as if the environments had begun at different times. Where lengths differ, every
    environment has its own, which depend on its index only.

    Check: even or not, the mean length is that of `lengths`.
    """

    def __init__(self, lengths: Lengths, first_index: int, num_envs: int):
        self._mean, self._restarts = lengths.mean, 0
        indices = first_index + np.arange(num_envs)
        self._offset, self._steps = indices * 7 % lengths.mean, None
        if lengths.spread:
            drawn = np.stack([np.random.default_rng(index).standard_normal(CYCLE) for index in indices.tolist()])
            scaled = lengths.mean * np.exp(lengths.spread * drawn - lengths.spread**2 / 2)
            self._steps = np.maximum(1, np.rint(scaled)).astype(np.int64)
            self._bounds = bounds_of(self._steps)

    def restart(self) -> None:
        """All begin anew with the episodes that come next; from the second time on all at the beginning of one."""
        self._restarts += 1
        if self._steps is not None:
            self._bounds = bounds_of(np.roll(self._steps, 1 - self._restarts, axis=1))
        elif self._restarts > 1:
            self._offset = np.zeros_like(self._offset)

    def rows(self, slots: Array, taken: Array) -> tuple[Array, Array]:
        """(terminated, valid) of the rows of these environments after so many steps since they began."""
        if self._steps is None:
            age = (taken + self._offset[slots]) % (self._mean + 1)
            return age == self._mean, (age != 0) & (taken > 0)
        bounds = self._bounds[slots]
        at = taken % bounds[:, -1]
        number, which = (bounds <= at[:, None]).sum(axis=1), np.arange(len(slots))
        begins, ends = bounds[which, number - 1], bounds[which, number]
        return at == ends - 1, (at != begins) & (taken > 0)


def bounds_of(steps: Array) -> Array:
    """[B, N + 1] where N episodes of so many steps [B, N] begin and the last ends, a resetting step after each."""
    return np.pad(np.cumsum(steps + 1, axis=1), ((0, 0), (1, 0)))
