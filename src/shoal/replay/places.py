# SPDX-License-Identifier: Apache-2.0
"""Whose place is taken where there is no room: the oldest item's, or one's that a choice names."""

from collections.abc import Callable

import numpy as np

from shoal.types import Array


class Places:
    """`slots` places, handed out in turn until they are all taken.

    Args:
      victims: n -> [n] different slots to take where nothing is free; None: those taken longest ago.

    Check: a slot is given out twice only if it was among those that had to go in between.
    """

    def __init__(self, slots: int, victims: Callable[[int], Array] | None = None):
        self.slots, self._victims = slots, victims
        self._taken = np.zeros(1, np.int64)

    def take(self, n: int) -> tuple[Array, Array]:
        """(slots [n] for new items, those of them whose items had to go).

        Raises ValueError where n is more than there are.
        """
        if n > self.slots:
            raise ValueError(f"{n} items at once in a memory for {self.slots}")
        taken = int(self._taken[0])
        free = max(0, min(n, self.slots - taken))
        self._taken += n
        if self._victims is None:
            slots = (taken + np.arange(n)) % self.slots
            return slots, slots[free:]
        gone = self._victims(n - free) if n > free else np.zeros(0, np.int64)
        return np.concatenate([taken + np.arange(free), gone]), gone

    def arrays(self) -> dict[str, np.ndarray]:
        """How many were taken so far."""
        return {"taken": self._taken}
