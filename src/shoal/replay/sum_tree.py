# SPDX-License-Identifier: Apache-2.0
"""Sums of blocks of numbers, so that a place is found by its share of the total: a tree of two wide levels.

Wide levels suit NumPy: finding n places is two searches over all of them at once, where a binary tree takes twenty.
"""

import numpy as np

from shoal.types import Array

WIDTH = 64
"""leaves of a block"""


class SumTree:
    """`size` numbers of 0 or more. Sums are always made anew from the leaves, so no error builds up.

    Check: after any writes, sums are those of the leaves, and no share finds a leaf that is 0.
    """

    def __init__(self, size: int):
        self.leaves = np.zeros(-(-size // WIDTH) * WIDTH)
        self._blocks = self.leaves.reshape(-1, WIDTH)
        self._sums = np.zeros(len(self._blocks))

    @property
    def total(self) -> float:
        """Sum of all leaves."""
        return float(self._sums.sum())

    def write(self, places: Array, values: Array) -> None:
        """values [M] to places [M]; of equal places the last counts."""
        self.leaves[places] = values
        blocks = places // WIDTH
        self._sums[blocks] = self._blocks.take(blocks, axis=0).sum(axis=1)

    def find(self, shares: Array) -> tuple[Array, Array]:
        """(places, their values), each [...]: the leaf in which a share in [0, 1) of the total lies.

        A leaf's part of [0, 1) is its part of the total; leaves of 0 are never found. The total must be above 0.
        """
        ends = np.cumsum(self._sums)
        target = np.minimum(shares.ravel() * ends[-1], np.nextafter(ends[-1], 0))
        block = np.searchsorted(ends, target, side="right")
        within = self._blocks.take(block, axis=0)
        inner = np.cumsum(within, axis=1)
        # rounding may leave a rest as large as the block: then it is the last leaf that holds something
        rest = np.minimum(target - (ends[block] - self._sums[block]), np.nextafter(inner[:, -1], 0))
        leaf = np.count_nonzero(inner <= rest[:, None], axis=1)
        places = block * WIDTH + leaf
        return places.reshape(shares.shape), within[np.arange(len(leaf)), leaf].reshape(shares.shape)

    def add_up(self) -> None:
        """Make all sums anew, after the leaves were written directly."""
        self._sums[:] = self._blocks.sum(axis=1)
