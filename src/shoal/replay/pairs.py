# SPDX-License-Identifier: Apache-2.0
"""Rows with both of their observations: twice the memory of rings, but any row can make room for another."""

import numpy as np

from shoal.replay.base import Written
from shoal.replay.columns import RowColumns, named_arrays, read_obs
from shoal.replay.places import Places
from shoal.trees import tree_map
from shoal.types import Array, Batch, PyTree, Transitions


class Pairs:
    """Rows in any order.

    Args:
      obs, next_obs: a column for each entry of observations.
      places: whose place is taken where there is no room.

    Check: what is read is what was written.
    """

    def __init__(self, obs: PyTree, next_obs: PyTree, rows: RowColumns, places: Places):
        self.slots = places.slots
        self._obs, self._next_obs, self._rows, self._places = obs, next_obs, rows, places

    def write(self, message: Transitions) -> Written:
        """Keep the valid rows of a message."""
        t, b = np.nonzero(message.valid)
        slots, gone = self._places.take(len(t))
        ahead = t + message.steps[t, b]
        tree_map(lambda column, values: column.write(slots, values[t, b]), self._obs, message.obs)
        tree_map(lambda column, values: column.write(slots, values[ahead, b]), self._next_obs, message.obs)
        self._rows.write(slots, message, (t, b))
        return Written(slots, (t, b), gone)

    def read(self, slots: Array) -> Batch:
        """Rows at slots [...]."""
        return self._rows.read(slots, read_obs(self._obs, slots), lambda steps: read_obs(self._next_obs, slots))

    def rows(self, slots: Array) -> int:
        """As many as slots."""
        return slots.size

    def form(self) -> None:
        """Settings say all."""

    def prepare(self, form: None) -> None:
        """The arrays are there."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Both observations, rows, and which places are taken."""
        obs = {**named_arrays(self._obs, "obs"), **named_arrays(self._next_obs, "next_obs")}
        return {**obs, **self._rows.arrays(), **self._places.arrays()}
