# SPDX-License-Identifier: Apache-2.0
"""Stacks of frames of which each frame is kept once: a stack is its newest frame, and those in the cells before it.

    observations   aaaa  aaab  aabc  abcd | eeee  eeef
    cells           a     b     c     d      e     f       the newest frames, in the ring of the stream
    depth           0     1     2     3      0     1       frames of a stack that lie in the cells before its own

What a stack holds beyond its depth is its deepest frame again, or zeros, as environments fill up at an episode's start.
A stack that neither follows from the one before it nor is filled up so (where messages were lost) is a jump: its older
frames are put into cells of their own, which the ring leaves free before it.
"""

import math

import numpy as np

from shoal.types import Array

FOLLOWS, REPEATS, ZEROS, JUMPS = range(4)
"""how a stack comes about"""
COLOUR_CHANNELS = (1, 3, 4)
MOST_FRAMES = 16
"""that a stack is taken to have where no setting says so"""


class Stacked:
    """Observations whose first axis is `stack` frames, oldest first, in rings of `ring` slots.

    What follows from what is found by comparing, so nothing is assumed of environments.

    Check: what is read equals what was written, at episode starts, at jumps and where a ring begins anew.
    """

    def __init__(self, slots: int, ring: int, shape: tuple[int, ...], dtype: str, stack: int):
        self.lookback = stack - 1
        self._ring, self._shape = ring, shape
        self._frames = np.zeros((slots + 1, shape[0] // stack, *shape[1:]), dtype)  # the last one stays zero
        self._depth = np.zeros(slots, np.int8)
        self._zeros = np.zeros(slots, bool)

    def kinds(self, values: Array, goes_on: Array) -> Array:
        """How each of the stacks [T, B, ...] comes about, [T, B]; row 0 is kept already where `goes_on` [B]."""
        stacks = self._split(values)
        follows = np.empty(stacks.shape[:2], bool)
        follows[0] = goes_on
        follows[1:] = _same(stacks[1:, :, :-1], stacks[:-1, :, 1:], 2)
        kinds = np.full(follows.shape, FOLLOWS, np.int8)
        starts = stacks[~follows]
        repeats, zeros = _same(starts[:, :-1], starts[:, -1:], 1), _same(starts[:, :-1], 0, 1)
        kinds[~follows] = np.where(repeats, REPEATS, np.where(zeros, ZEROS, JUMPS))
        return kinds

    def write(self, slots: Array, values: Array, kinds: Array) -> None:
        """Stacks [T, B, ...] to slots [T, B]; `lookback` slots before each jump are free."""
        stacks = self._split(values)
        self._frames[slots] = stacks[:, :, -1]
        depth, zeros = self._depth[slots[0]] - 1, self._zeros[slots[0]]
        for row, kind in zip(slots, kinds, strict=True):
            follows = kind == FOLLOWS
            depth = np.where(follows, np.minimum(depth + 1, self.lookback), self.lookback * (kind == JUMPS))
            zeros = np.where(follows, zeros, kind == ZEROS)
            self._depth[row], self._zeros[row] = depth, zeros
        jumps = kinds == JUMPS
        for back in range(1, self.lookback + 1):
            self._frames[self._before(slots[jumps], back)] = stacks[jumps][:, -1 - back]

    def read(self, slots: Array) -> Array:
        """Stacks [..., *] at slots [...]."""
        slots = slots[..., None]
        depth, back = self._depth[slots], np.arange(self.lookback, -1, -1)
        cells = self._before(slots, np.minimum(back, depth))
        cells = np.where((back > depth) & self._zeros[slots], len(self._depth), cells)
        return self._frames.take(cells, axis=0).reshape(*cells.shape[:-1], *self._shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """Frames, and how stacks are made of them."""
        return {"frames": self._frames, "depth": self._depth, "zeros": self._zeros}

    def _split(self, values: Array) -> Array:
        """[T, B, *] -> [T, B, stack, channels, ...]."""
        return values.reshape(*values.shape[:2], self.lookback + 1, *self._frames.shape[1:])

    def _before(self, slots: Array, back: Array | int) -> Array:
        """The cells so many before slots, in the same ring."""
        position = slots % self._ring
        return slots - position + (position - back) % self._ring


def _same(a: Array, b: Array | int, axes: int) -> Array:
    """Where all of a and b are equal, over all axes but the first so many."""
    equal = np.asarray(a == b)
    return equal.reshape(*equal.shape[:axes], math.prod(equal.shape[axes:])).all(-1)


def frames_of(shape: tuple[int, ...], dtype: str, frame_stack: int) -> int:
    """Frames that an entry of observations is a stack of, by the setting or by the looks of it; 1: of none.

    Pictures [height, width] of bytes in a stack of 2 to 16, or [height, width, channels], are taken for one.
    """
    if frame_stack > 1:
        return frame_stack if shape and shape[0] % frame_stack == 0 else 1
    pictures = dtype == "uint8" and (len(shape) == 4 or (len(shape) == 3 and shape[-1] not in COLOUR_CHANNELS))
    return shape[0] if pictures and shape[0] != 3 and shape[0] <= MOST_FRAMES else 1
