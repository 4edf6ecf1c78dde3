# SPDX-License-Identifier: Apache-2.0
"""Sums of blocks of numbers, so that a place is found by its share of the total: a tree of few and wide levels.

    1,000,000 leaves > 15,625 blocks of 64, whose sums are kept > 977 spans of 16 blocks > a search

Wide levels suit NumPy. A place is found in four steps over all shares at once, where a binary tree takes twenty: among
spans, among a span's blocks, among the eighths of a block, and among the leaves of an eighth.
"""

import numpy as np

from shoal.types import Array

PART = 8
WIDTH = PART * PART
"""leaves of a block"""
SPAN = 16
"""blocks that are looked at together"""


class SumTree:
    """`size` numbers of 0 or more. Sums are always made anew from the leaves, so no error builds up.

    Check: after any writes, sums are those of the leaves, and no share finds a leaf that is 0.
    """

    def __init__(self, size: int):
        spans = -(-size // (WIDTH * SPAN))
        self.leaves = np.zeros(spans * SPAN * WIDTH)
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
        each = np.arange(shares.size)
        sums = self._sums.reshape(-1, SPAN)
        ends = np.concatenate([np.zeros(1), np.cumsum(_sums_of(sums))])
        target = np.minimum(shares.ravel() * ends[-1], np.nextafter(ends[-1], 0))
        span = np.searchsorted(ends[1:], target, side="right")
        step, rest = _pick(sums.take(span, axis=0), target - ends[span])
        block = span * SPAN + step
        eighths = self._blocks.take(block, axis=0).reshape(-1, PART, PART)
        eighth, rest = _pick(_sums_of(eighths), rest)
        within = eighths[each, eighth]
        leaf, _ = _pick(within, rest)
        places = (block * PART + eighth) * PART + leaf
        return places.reshape(shares.shape), within[each, leaf].reshape(shares.shape)

    def add_up(self) -> None:
        """Make all sums anew, after the leaves were written directly."""
        self._sums[:] = self._blocks.sum(axis=1)


def _sums_of(values: Array) -> Array:
    """Sums over a short last axis, for which `sum` is several times slower."""
    return np.einsum("...i->...", values)


def _pick(values: Array, rest: Array) -> tuple[Array, Array]:
    """In which of values [N, W] laid end to end rest [N] lies, and how far into it: (index [N], rest [N]).

    Rounding may leave a rest as large as all values together: then it is the end of the last one above 0. Sums are made
    one after the other, so a value of 0 has no length.
    """
    ends = np.zeros((values.shape[1] + 1, len(values)))
    ends[1:] = values.T
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    rest = np.minimum(rest, np.nextafter(ends[-1], 0))
    index = np.count_nonzero(ends[1:] <= rest, axis=0)
    return index, rest - ends[index, np.arange(len(values))]
