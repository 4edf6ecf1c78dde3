# SPDX-License-Identifier: Apache-2.0
"""What every replay memory can do, and what it is made of: a store, where rows lie, and a choice of which are drawn.

Both speak of slots, 0 .. slots-1. What lies in one is a row (a transition) or a sequence, an *item* of the memory.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from shoal.types import Array, Batch, Sequences


class Memory(Protocol):
    """What a replay role holds."""

    capacity: int
    """items at most"""
    added: int
    """rows since the start, those that can be learnt from: rows after burn-in, where items are sequences"""
    drawn: int
    """rows since the start, counted likewise: drawn / added is the measured replay ratio"""

    @property
    def size(self) -> int:
        """Items that can be drawn now."""
        ...

    @property
    def nbytes(self) -> int:
        """Of all its arrays, as `sizing.py` states them before anything is made."""
        ...

    def add(self, message: Any) -> int:
        """Keep what an actor handed on, Transitions or Sequences. Returns the rows by which `added` grew."""
        ...

    def draw(self, n: int, groups: int = 0) -> Batch | Sequences:
        """n items, or, where groups K > 0, K minibatches of n with a leading axis [K, ...]. Arrays are new."""
        ...

    def prioritise(self, key: Array, priority: Array) -> int:
        """New priorities for keys that were drawn. Returns how many still name what they named; others are ignored."""
        ...

    def save(self, folder: Path) -> None:
        """Write a snapshot as a new folder: all of it, or nothing."""
        ...

    def restore(self, folder: Path) -> None:
        """Become what was saved. Raises CheckpointError where that was cut short, altered, or is another memory's."""
        ...


class Written(NamedTuple):
    """What a store did with a message."""

    slots: Array
    """[M] where new items lie"""
    source: tuple[Array, ...]
    """index of each in the message: (t, b) of rows, (n,) of sequences"""
    gone: Array
    """[G] slots whose items made room; some may be in `slots` again"""


class Store(Protocol):
    """Where items lie."""

    slots: int

    def write(self, message: Any) -> Written:
        """Keep what is valid in a message, letting other items go where there is no room."""
        ...

    def read(self, slots: Array) -> Any:
        """Items at slots [N] or [K, N], as new arrays; weights and keys are not the store's to say."""
        ...

    def rows(self, slots: Array) -> int:
        """Rows to learn from in the items at these slots."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that a snapshot has to hold, in place."""
        ...

    def form(self) -> Any:
        """What the arrays look like beyond what settings say, for JSON to hold."""
        ...

    def prepare(self, form: Any) -> None:
        """Have arrays of that form."""
        ...


class Choice(Protocol):
    """Which slots are drawn."""

    @property
    def size(self) -> int:
        """Slots that can be drawn."""
        ...

    def add(self, slots: Array, priority: Array | None) -> None:
        """Slots [M] that can be drawn from now on; none of them could before. Without priorities the highest so far."""
        ...

    def remove(self, slots: Array) -> None:
        """Slots [M], all different, that cannot be drawn any longer; all of them could before."""
        ...

    def draw(self, groups: int, n: int, exponent: float) -> tuple[Array, Array]:
        """(slots, weights), each [groups, n]: weights (size * P(slot)) ** -exponent, over the largest in each group."""
        ...

    def prioritise(self, slots: Array, priority: Array) -> None:
        """New priorities [M] for slots that can be drawn; of equal slots the last counts."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that a snapshot has to hold, in place."""
        ...

    def restored(self) -> None:
        """The arrays were written to: make anew what follows from them."""
        ...
