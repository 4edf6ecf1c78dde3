# SPDX-License-Identifier: Apache-2.0
"""Rows drawn in proportion to priority ** exponent (Schaul et al. 2016, arXiv 1511.05952, section 3.3)."""

import numpy as np

from shoal.replay.sum_tree import SumTree
from shoal.types import Array

LEAST = 1e-6
"""priority of rows whose error is less, so that none is lost from sight"""


class Proportional:
    """Slots under a sum tree of priority ** exponent.

    A draw of n rows takes one from each of n equal parts of the sum, as the paper does: rows are as likely as in n
    independent draws, and a batch differs less from the distribution.

    Check: how often rows are drawn follows priority ** exponent (chi-square).
    """

    def __init__(self, slots: int, exponent: float, rng: np.random.Generator):
        self.rng, self.exponent = rng, exponent
        self.size = 0
        self.tree = SumTree(slots)
        self._highest = np.ones(1)
        self.nbytes = self.tree.nbytes

    def add(self, slots: Array, priority: Array | None = None) -> None:
        """Slots [M] that can be drawn from now on, with the highest priority so far where none are given."""
        self.size += len(slots)
        self.prioritise(slots, np.broadcast_to(self._highest, len(slots)) if priority is None else priority)

    def remove(self, slots: Array) -> None:
        """Slots [M] that cannot be drawn any longer."""
        self.size -= len(slots)
        self.tree.write(slots, np.zeros(len(slots)))

    def draw(self, groups: int, n: int, exponent: float) -> tuple[Array, Array]:
        """(slots, weights), each [groups, n]: (size * P(slot)) ** -exponent, over the largest weight of each group."""
        shares = (np.arange(n) + self.rng.random((groups, n))) / n
        slots, mass = self.tree.find(shares)
        weight = (mass.min(axis=-1, keepdims=True) / mass) ** exponent
        return slots, weight.astype(np.float32)

    def prioritise(self, slots: Array, priority: Array) -> None:
        """New priorities [M] of slots that can be drawn; of equal slots the last counts."""
        if len(slots):
            np.maximum(self._highest, np.max(priority), out=self._highest)
            self.tree.write(slots, np.maximum(priority, LEAST, dtype=np.float64) ** self.exponent)
