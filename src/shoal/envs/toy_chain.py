# SPDX-License-Identifier: Apache-2.0
"""A toy whose only reward is rare: what a replay memory must not drown among everything else."""

from typing import Any

import numpy as np

from shoal.envs.toy_vectors import ToyVector, at_least
from shoal.types import ArraySpec, Discrete, EnvSpec


class KeyDoor(ToyVector):
    """A chain of cells: from the door to the key at the far end and back, with a cliff beside every step.

    In each cell one of two actions goes on and the other ends the episode with nothing; which one it is changes from
    cell to cell, and with the key in hand. Opening the door with the key returns 1 and ends the episode. Observations
    are the cell, one-hot [length], and whether the key is held. Episodes begin in the door's cell or the next one. At
    random one in about 2 ** (2 * length - 2.6) pays, and those that do not last two steps on average. After the
    cliffwalk of Schaul et al. 2016 (arXiv 1511.05952, section 3.1).
    """

    def __init__(self, num_envs: int, first_index: int = 0, *, length: int = 5):
        at_least("toy:key_door", "length", length, 2)
        spec = EnvSpec("toy:key_door", ArraySpec((length + 1,), "float32"), Discrete(2), 2 * (length - 1))
        super().__init__(spec, 1, num_envs, first_index)
        self._one_hot = np.eye(length, length + 1, dtype=np.float32)
        self._cell = np.zeros(num_envs, np.int64)
        self._key = np.zeros(num_envs, bool)

    def _start(self, slots: np.ndarray, u: np.ndarray) -> None:
        self._cell[slots], self._key[slots] = u[:, 0] < 0.5, False

    def _advance(self, slots: np.ndarray, action: np.ndarray) -> tuple[Any, Any]:
        cell, key = self._cell[slots], self._key[slots]
        goes_on = action == (cell + key) % 2
        cell = np.where(goes_on, np.where(key, cell - 1, cell + 1), cell)
        key |= cell == len(self._one_hot) - 1
        opened = goes_on & key & (cell == 0)
        self._cell[slots], self._key[slots] = cell, key
        return opened, opened | ~goes_on

    def _observe(self, slots: np.ndarray) -> np.ndarray:
        seen = self._one_hot[self._cell[slots]]
        seen[:, -1] = self._key[slots]
        return seen
