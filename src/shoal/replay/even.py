# SPDX-License-Identifier: Apache-2.0
"""Every item as likely as any other."""

import numpy as np

from shoal.types import Array


class Even:
    """Slots that can be drawn, packed at the front of one array, so that a draw is an index.

    Check: after any additions and removals the packed slots are those that were added and not removed.
    """

    def __init__(self, slots: int, rng: np.random.Generator):
        self._rng = rng
        self._packed = np.zeros(slots, np.int64)
        self._place = np.zeros(slots, np.int64)
        self._size = np.zeros(1, np.int64)

    @property
    def size(self) -> int:
        """Slots that can be drawn."""
        return int(self._size[0])

    def add(self, slots: Array, priority: Array | None = None) -> None:
        """Slots [M] that can be drawn from now on. Priorities say nothing here."""
        places = np.arange(self.size, self.size + len(slots))
        self._packed[places] = slots
        self._place[slots] = places
        self._size += len(slots)

    def remove(self, slots: Array) -> None:
        """Slots [M], all different, that cannot be drawn any longer: the last ones move into their places."""
        kept, places = self.size - len(slots), self._place[slots]
        stays = np.ones(len(slots), bool)
        stays[places[places >= kept] - kept] = False
        moved, holes = self._packed[kept : self.size][stays], places[places < kept]
        self._packed[holes] = moved
        self._place[moved] = holes
        self._size -= len(slots)

    def draw(self, groups: int, n: int, exponent: float = 0.0) -> tuple[Array, Array]:
        """(slots, weights), each [groups, n]: independent draws, and weights of 1."""
        slots = self._packed[self._rng.integers(self.size, size=(groups, n))]
        return slots, np.ones((groups, n), np.float32)

    def prioritise(self, slots: Array, priority: Array) -> None:
        """Nothing: all stay alike."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The packed slots, their places, and how many they are."""
        return {"packed": self._packed, "place": self._place, "size": self._size}

    def restored(self) -> None:
        """Nothing follows from the arrays."""
