# SPDX-License-Identifier: Apache-2.0
"""Items drawn in proportion to priority ** exponent (Schaul et al. 2016, arXiv 1511.05952, section 3.3)."""

import numpy as np

from shoal.replay.sum_tree import SumTree
from shoal.types import Array

LEAST = 1e-6
"""priority of items whose error is less, so that none is lost from sight"""


class Proportional:
    """Slots under a sum tree of priority ** exponent.

    A draw of n items takes one from each of n equal parts of the sum, as the paper does: items are as likely as in n
    independent draws, and a batch differs less from the distribution.

    Check: how often items are drawn follows priority ** exponent (chi-square).
    """

    def __init__(self, slots: int, exponent: float, rng: np.random.Generator):
        self._rng, self._alpha = rng, exponent
        self._tree = SumTree(slots)
        self._highest = np.ones(1)
        self._size = np.zeros(1, np.int64)

    @property
    def size(self) -> int:
        """Slots that can be drawn."""
        return int(self._size[0])

    def add(self, slots: Array, priority: Array | None = None) -> None:
        """Slots [M] that can be drawn from now on, with the highest priority so far where none are given."""
        self._size += len(slots)
        self.prioritise(slots, np.full(len(slots), self._highest[0]) if priority is None else priority)

    def remove(self, slots: Array) -> None:
        """Slots [M], all different, that cannot be drawn any longer."""
        self._size -= len(slots)
        self._tree.write(slots, np.zeros(len(slots)))

    def draw(self, groups: int, n: int, exponent: float) -> tuple[Array, Array]:
        """(slots, weights), each [groups, n]: weights (size * P(slot)) ** -exponent, over the largest of each group."""
        shares = (np.arange(n) + self._rng.random((groups, n))) / n
        slots, mass = self._tree.find(shares)
        weight = (mass.min(axis=-1, keepdims=True) / mass) ** exponent  # size and total cancel out
        return slots, weight.astype(np.float32)

    def prioritise(self, slots: Array, priority: Array) -> None:
        """New priorities [M] of slots that can be drawn; of equal slots the last counts."""
        if len(slots):
            self._highest[0] = max(self._highest[0], priority.max())
            self._tree.write(slots, np.maximum(priority, LEAST, dtype=np.float64) ** self._alpha)

    def arrays(self) -> dict[str, np.ndarray]:
        """Leaves, the highest priority so far, and how many can be drawn."""
        return {"leaves": self._tree.leaves, "highest": self._highest, "size": self._size}

    def restored(self) -> None:
        """Sums follow from the leaves."""
        self._tree.add_up()


class ProportionalEviction(Proportional):
    """Also says whose place is taken where there is no room: in proportion to priority ** `eviction_exponent`, which is
    negative (Horgan et al. 2018, arXiv 1803.00933, appendix D: -0.4).

    Check: how often items are let go follows priority ** eviction_exponent (chi-square).
    """

    def __init__(self, slots: int, exponent: float, rng: np.random.Generator, eviction_exponent: float = -0.4):
        super().__init__(slots, exponent, rng)
        self._eviction_exponent = eviction_exponent
        self._leaving = SumTree(slots)

    def victims(self, n: int) -> Array:
        """n different slots that can be drawn, still to be removed."""
        found = np.zeros(0, np.int64)
        while len(found) < n:
            shares = self._rng.random(n - len(found))
            more = np.unique(self._leaving.find(shares)[0])
            self._leaving.write(more, np.zeros(len(more)))
            found = np.concatenate([found, more])
        return found

    def remove(self, slots: Array) -> None:
        """Slots [M], all different, that cannot be drawn any longer."""
        super().remove(slots)
        self._leaving.write(slots, np.zeros(len(slots)))

    def prioritise(self, slots: Array, priority: Array) -> None:
        """New priorities [M] of slots that can be drawn; of equal slots the last counts."""
        super().prioritise(slots, priority)
        self._leaving.write(slots, np.maximum(priority, LEAST, dtype=np.float64) ** self._eviction_exponent)

    def arrays(self) -> dict[str, np.ndarray]:
        """Also what says who leaves."""
        return {**super().arrays(), "leaving": self._leaving.leaves}

    def restored(self) -> None:
        """Sums follow from the leaves."""
        super().restored()
        self._leaving.add_up()
