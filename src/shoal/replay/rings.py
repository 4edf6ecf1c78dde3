# SPDX-License-Identifier: Apache-2.0
"""Rows of each stream in a ring of its own, so that observations are stored once and the next is found by position.

    a message of one stream, T = 4, n = 2          its ring, from where the last message stopped
    obs     o0 o1 o2 o3 o4 o5                      o0 o1 o2 o3 o4 o5
    rows    r0 r1 r2 r3                            r0 r1 r2 r3 -- --

The last n observations hold no rows yet: the stream's next message opens with them and goes on at o4. One that opens
otherwise (messages were lost, or the actor was started anew) goes on behind o5, since the rows so far lead there.
"""

import numpy as np

from shoal.replay.base import Written
from shoal.replay.columns import Columns
from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, Batch, Transitions


class Rings:
    """A ring of `length` rows for each of `streams` environments, told apart by the stream numbers they come with.

    Check: what is read equals what a store of both observations of each row gives.
    """

    def __init__(self, columns: Columns, streams: int, length: int, n_step: int):
        self.columns, self.streams, self.n_step = columns, streams, n_step
        self.length = length + n_step
        self.slots = streams * self.length
        self._ring_of: dict[int, int] = {}
        self._next = np.full(streams, -1)
        self._valid = np.zeros(self.slots, bool)
        self.nbytes = columns.nbytes + self._valid.nbytes

    def write(self, rows: Transitions) -> Written:
        """Put a message's rows behind those of their streams; the oldest of each stream make room."""
        steps, rings = len(rows.reward), self._rings(rows.stream)
        if steps + self.n_step > self.length:
            raise ValueError(f"{steps} rows of a stream do not fit into a ring of {self.length - self.n_step}")
        starts = self._starts(rings, rows)
        span = np.arange(steps + self.n_step)[:, None]
        slots = rings * self.length + (starts + span) % self.length
        gone = slots[self._valid[slots]]
        self._valid[slots] = False
        self._next[rings] = (starts + steps) % self.length
        self.columns.write_obs(slots, rows.obs)
        t, b = np.nonzero(rows.valid)
        new = slots[t, b]
        self._valid[new] = True
        self.columns.write_rows(new, rows, (t, b))
        return Written(new, (t, b), gone)

    def read(self, slots: Array) -> Batch:
        """Rows at slots [...]."""
        ring, position = np.divmod(slots, self.length)
        steps = self.columns.steps[slots]
        return self.columns.read(slots, ring * self.length + (position + steps) % self.length)

    def _rings(self, streams: Array) -> Array:
        """[B] ring of each stream; a new stream takes the next ring."""
        found = [self._ring_of.setdefault(stream, len(self._ring_of)) for stream in np.asarray(streams).tolist()]
        if len(self._ring_of) > self.streams:
            raise ValueError(f"rows of {len(self._ring_of)} streams for a memory of {self.streams}")
        return np.array(found)

    def _starts(self, rings: Array, rows: Transitions) -> Array:
        """[B] positions of row 0: over the observations kept from the last message where the new ones equal them."""
        expected = self._next[rings]
        ahead = np.arange(self.n_step)[:, None]
        kept = self.columns.read_obs(rings * self.length + (expected + ahead) % self.length)
        opening = tree_map(lambda leaf: leaf[: self.n_step], rows.obs)
        goes_on = expected >= 0
        for old, new in zip(tree_leaves(kept), tree_leaves(opening), strict=True):
            goes_on &= (old == new).reshape(self.n_step, len(rings), -1).all((0, 2))
        return np.where(goes_on, expected, np.where(expected < 0, 0, expected + self.n_step))
