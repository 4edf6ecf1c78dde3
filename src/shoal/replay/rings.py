# SPDX-License-Identifier: Apache-2.0
"""Rows of each stream in a ring of its own, so that observations are kept once and the next is found by position.

    a message of one stream, T = 4, n = 2          its ring, from where the last message stopped
    obs     o0 o1 o2 o3 o4 o5                      o0 o1 o2 o3 o4 o5
    rows    r0 r1 r2 r3                            r0 r1 r2 r3 -- --

The last n observations hold no rows yet: the stream's next message opens with them and goes on at o4. One that opens
otherwise (messages were lost, or the actor was started anew) goes on behind o5, since the rows so far lead there.
"""

import numpy as np

from shoal.replay.base import Written
from shoal.replay.columns import RowColumns, named_arrays, read_obs
from shoal.replay.stacks import JUMPS
from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, Batch, PyTree, Transitions


class Rings:
    """A ring of slots for each of `streams` environments, told apart by the stream numbers that they come with.

    Args:
      obs: a column for each entry of observations, [streams * ring] slots.
      ring: slots of a ring: rows that can be drawn, and beside them `n_step` and the columns' lookback.

    Check: what is read equals what a store of both observations of each row gives.
    """

    def __init__(self, obs: PyTree, rows: RowColumns, streams: int, ring: int, n_step: int):
        self.slots = streams * ring
        self._obs, self._rows, self._ring, self._n_step = obs, rows, ring, n_step
        self._columns = tree_leaves(obs)
        self._lookback = max(column.lookback for column in self._columns)
        self._streams = np.full(streams, -1)
        """whose each ring is; -1: nobody's"""
        self._next = np.full(streams, -1)
        """where each ring goes on, if it does; -1: nothing is in it"""
        self._end = np.zeros(streams, np.int64)
        """where its observations end"""
        self._valid = np.zeros(self.slots, bool)

    def write(self, message: Transitions) -> Written:
        """Put a message's rows behind those of their streams; the oldest of each stream make room."""
        rings = self._rings_of(np.asarray(message.stream))
        goes_on = self._goes_on(rings, message)
        values = tree_leaves(message.obs)
        kinds = [column.kinds(part, goes_on) for column, part in zip(self._columns, values, strict=True)]
        jumps = np.any([_jumps(kind, part) for kind, part in zip(kinds, values, strict=True)], axis=0)
        slots, gone = self._make_room(rings, goes_on, len(message.reward), jumps)
        for column, part, kind in zip(self._columns, values, kinds, strict=True):
            column.write(slots, part, None if kind is None else np.where(jumps, JUMPS, kind))
        t, b = np.nonzero(message.valid)
        new = slots[t, b]
        self._valid[new] = True
        self._rows.write(new, message, (t, b))
        return Written(new, (t, b), gone)

    def read(self, slots: Array) -> Batch:
        """Rows at slots [...]."""
        position = slots % self._ring
        start = slots - position
        return self._rows.read(
            slots,
            read_obs(self._obs, slots),
            lambda steps: read_obs(self._obs, start + (position + steps) % self._ring),
        )

    def rows(self, slots: Array) -> int:
        """As many as slots."""
        return slots.size

    def form(self) -> None:
        """Settings say all."""

    def prepare(self, form: None) -> None:
        """The arrays are there."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Observations, rows, and where each ring goes on."""
        own = {"streams": self._streams, "next": self._next, "end": self._end, "valid": self._valid}
        return {**named_arrays(self._obs, "obs"), **self._rows.arrays(), **own}

    def _rings_of(self, streams: Array) -> Array:
        """[B] ring of each stream; one that is new takes the next that is free."""
        new = streams[~np.isin(streams, self._streams)]
        free = np.flatnonzero(self._streams < 0)
        if len(new) > len(free):
            raise ValueError(f"rows of stream {new[len(free)]} in a memory for {len(self._streams)} others")
        self._streams[free[: len(new)]] = new
        return np.argmax(streams[:, None] == self._streams, axis=1)

    def _goes_on(self, rings: Array, message: Transitions) -> Array:
        """[B] whether a message opens with the observations that its stream's last one ended with."""
        goes_on = self._next[rings] >= 0
        ahead = np.arange(self._n_step)[:, None]
        kept = read_obs(self._obs, rings * self._ring + (self._next[rings] + ahead) % self._ring)
        opening = tree_map(lambda leaf: leaf[: self._n_step], message.obs)
        for old, new in zip(tree_leaves(kept), tree_leaves(opening), strict=True):
            goes_on &= (old == new).reshape(*old.shape[:2], -1).all((0, 2))
        return goes_on

    def _make_room(self, rings: Array, goes_on: Array, rows: int, jumps: Array) -> tuple[Array, Array]:
        """(slots [T + n, B] for a message of T rows, slots [G] of the rows that had to go).

        Beyond what is written, `lookback` slots lose the cells before them. Rows go from the oldest on, and each leads
        to an observation behind its own, so whatever stays is whole.
        """
        begins = np.where(goes_on, self._next[rings], self._end[rings])
        positions = begins + np.arange(rows + self._n_step)[:, None] + self._lookback * np.cumsum(jumps, axis=0)
        lost = positions[-1] + 1 + self._lookback - begins
        if lost.max() > self._ring:
            raise ValueError(f"{rows} rows of a stream need {lost.max()} of the {self._ring} slots of its ring")
        span = np.arange(lost.max())[:, None]
        cleared = (rings * self._ring + (begins + span) % self._ring)[span < lost]
        gone = cleared[self._valid[cleared]]
        self._valid[gone] = False
        self._next[rings], self._end[rings] = positions[rows] % self._ring, (positions[-1] + 1) % self._ring
        return rings * self._ring + positions % self._ring, gone


def _jumps(kinds: Array | None, values: Array) -> Array:
    """[T + n, B] which observations [T + n, B, ...] need free slots before theirs."""
    return np.zeros(values.shape[:2], bool) if kinds is None else kinds == JUMPS
