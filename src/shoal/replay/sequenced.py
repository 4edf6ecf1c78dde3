# SPDX-License-Identifier: Apache-2.0
"""Sequences as items: unrolls with the memory before their first row (Kapturowski et al. 2019, R2D2)."""

from typing import Any

import numpy as np

from shoal.errors import ConfigError
from shoal.replay.base import Written
from shoal.replay.columns import action_dtype, named_arrays, read_obs
from shoal.replay.places import Places
from shoal.replay.stacks import FOLLOWS, JUMPS
from shoal.trees import tree_items, tree_leaves, tree_map
from shoal.types import Array, EnvSpec, PyTree, Sequences, Trajectory

BY_ROW = ("action", "reward", "terminated", "truncated", "valid")


class Sequenced:
    """Sequences of `length` rows, each in a slot. Recurrent memory gets its arrays with the first message, since only
    messages tell its form. Observations that no valid row sees are kept roughly: see `_without_unseen`.

    Args:
      obs: a column for each entry of observations, each sequence in a ring of `ring` slots.
      burn_in: rows at the beginning that count neither as added nor as drawn.

    Check: what valid rows are read with is what was written.
    """

    def __init__(self, spec: EnvSpec, obs: PyTree, ring: int, length: int, burn_in: int, places: Places):  # noqa: PLR0913
        self.slots = places.slots
        self._obs, self._ring, self._length, self._burn_in, self._places = obs, ring, length, burn_in, places
        self._columns = tree_leaves(obs)
        dtypes = (action_dtype(spec), "float32", "bool", "bool", "bool")
        shapes = (spec.action.shape, (), (), (), ())
        self._by_row = {
            name: np.zeros((self.slots * length, *shape), dtype)
            for name, shape, dtype in zip(BY_ROW, shapes, dtypes, strict=True)
        }
        self._version = np.zeros(self.slots, np.int64)
        self._counts = np.zeros(self.slots, np.int32)
        self._memory: PyTree = ()

    def write(self, message: Sequences) -> Written:
        """Keep sequences; all of a message are valid."""
        steps: Trajectory = message.steps
        if len(steps.reward) != self._length:
            raise ValueError(f"sequences of {len(steps.reward)} rows in a memory for {self._length}")
        self.prepare(tree_map(lambda leaf: f"{leaf.dtype}:{','.join(map(str, leaf.shape[1:]))}", steps.memory))
        slots, gone = self._places.take(len(steps.version))
        self._write_obs(slots, steps)
        for name, column in self._by_row.items():
            column[self._at(slots, self._length)] = getattr(steps, name)
        tree_map(lambda kept, values: _put(kept, slots, values), self._memory, steps.memory)
        self._version[slots] = steps.version
        self._counts[slots] = steps.valid[self._burn_in :].sum(0)
        return Written(slots, (np.arange(len(slots)),), gone)

    def read(self, slots: Array) -> Sequences:
        """Sequences at slots [N] or [K, N]: fields [L, N, ...] or [K, L, N, ...]."""
        rows = self._at(slots, self._length)
        steps = Trajectory(
            obs=read_obs(self._obs, self._at(slots, self._ring)[..., -self._length - 1 :, :]),
            **{name: column.take(rows, axis=0) for name, column in self._by_row.items()},
            log_prob=(),
            memory=tree_map(lambda kept: kept[slots], self._memory),
            version=self._version[slots],
            episode_return=(),
            episode_length=(),
        )
        return Sequences(steps, weight=np.ones(slots.shape, np.float32), key=slots, priority=())

    def rows(self, slots: Array) -> int:
        """Valid rows after burn-in."""
        return int(self._counts[slots].sum())

    def prepare(self, form: Any) -> None:
        """Make the arrays of recurrent memory by its form, a tree of "dtype:shape" for one sequence, if there are none.
        A form that went through JSON has lists for tuples."""
        if not tree_leaves(self._memory):
            self._memory = tree_map(self._made, _tuples(form))

    def arrays(self) -> dict[str, np.ndarray]:
        """Observations, rows, memory, and which places are taken."""
        memory = {f"memory.{path}".replace("/", "."): leaf for path, leaf in tree_items(self._memory)}
        own = {"version": self._version, "counts": self._counts}
        return {**named_arrays(self._obs, "obs"), **self._by_row, **memory, **own, **self._places.arrays()}

    def form(self) -> Any:
        """What `prepare` needs to know before arrays can be restored."""
        return tree_map(lambda leaf: f"{leaf.dtype}:{','.join(map(str, leaf.shape[1:]))}", self._memory)

    def _made(self, form: str) -> Array:
        dtype, _, shape = form.partition(":")
        return np.zeros((self.slots, *(int(size) for size in shape.split(",") if size)), dtype)

    def _at(self, slots: Array, length: int) -> Array:
        """[..., N] slots -> [..., length, N] places of their rows, where a slot has so many."""
        return slots[..., None, :] * length + np.arange(length)[:, None]

    def _write_obs(self, slots: Array, steps: Trajectory) -> None:
        never = np.zeros(len(slots), bool)
        seen = np.zeros((self._length + 1, len(slots)), bool)
        seen[:-1] |= steps.valid
        seen[1:] |= steps.valid
        places = self._at(slots, self._ring)[-self._length - 1 :]
        for column, values in zip(self._columns, tree_leaves(steps.obs), strict=True):
            kinds = column.kinds(values, never)
            column.write(places, values, None if kinds is None else _without_unseen(kinds, seen, column.lookback))


def _put(rows: Array, slots: Array, values: Array) -> None:
    rows[slots] = values


def _tuples(form: Any) -> Any:
    """A tree in which lists are tuples."""
    if isinstance(form, dict):
        return {name: _tuples(part) for name, part in form.items()}
    return tuple(_tuples(part) for part in form) if isinstance(form, list | tuple) else form


def _without_unseen(kinds: Array, seen: Array, lookback: int) -> Array:
    """Kinds [L+1, N] in which stacks that no valid row sees follow from those before, whatever they are: they only fill
    a sequence up. A jump may put its older frames into their cells, or before the first row.

    Raises ConfigError where a jump is among rows that are seen: observations are no stacks then.
    """
    kinds = np.where(~seen & (kinds == JUMPS), FOLLOWS, kinds)
    kinds[0] = np.where(kinds[0] == FOLLOWS, JUMPS, kinds[0])
    for t in range(1, len(kinds)):
        crowded = (kinds[t] == JUMPS) & seen[max(0, t - lookback) : t].any(0)
        if crowded.any():
            raise ConfigError(
                "deduplicate: an observation does not begin with the frames that the one before it ended with, so they "
                "are no stacks of frames; turn it off with --no-deduplicate"
            )
    return kinds
