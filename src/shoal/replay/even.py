# SPDX-License-Identifier: Apache-2.0
"""Every row as likely as any other."""

import numpy as np

from shoal.types import Array


class Even:
    """Slots that can be drawn, packed at the front of one array, so that a draw is an index.

    Check: after any additions and removals the packed slots are those that were added and not removed.
    """

    def __init__(self, slots: int, rng: np.random.Generator):
        self.rng = rng
        self.size = 0
        self._packed = np.zeros(slots, np.int64)
        self._place = np.zeros(slots, np.int64)
        self.nbytes = self._packed.nbytes + self._place.nbytes

    def add(self, slots: Array, priority: Array | None = None) -> None:
        """Slots [M] that can be drawn from now on. Priorities say nothing here."""
        places = np.arange(self.size, self.size + len(slots))
        self._packed[places] = slots
        self._place[slots] = places
        self.size += len(slots)

    def remove(self, slots: Array) -> None:
        """Slots [M] that cannot be drawn any longer: the last ones move into their places."""
        kept = self.size - len(slots)
        places = self._place[slots]
        last = np.ones(len(slots), bool)
        last[places[places >= kept] - kept] = False
        moved, holes = self._packed[kept : self.size][last], places[places < kept]
        self._packed[holes] = moved
        self._place[moved] = holes
        self.size = kept

    def draw(self, groups: int, n: int, exponent: float = 0.0) -> tuple[Array, Array]:
        """(slots [groups, n], weights of 1)."""
        slots = self._packed[self.rng.integers(self.size, size=(groups, n))]
        return slots, np.ones((groups, n), np.float32)

    def prioritise(self, slots: Array, priority: Array) -> None:
        """Nothing: all rows stay alike."""
