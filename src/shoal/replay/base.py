# SPDX-License-Identifier: Apache-2.0
"""What every replay memory can do, and how rows are kept, chosen and named.

A memory is a store (where rows lie) and a choice (which of them are drawn). Both speak of slots, 0 .. slots-1.
"""

from typing import Any, NamedTuple, Protocol

from shoal.types import Array, Batch, Sequences, Transitions


class Memory(Protocol):
    """What a replay role holds."""

    capacity: int
    """rows, or sequences, at most"""
    size: int
    """rows, or sequences, that can be drawn now"""
    nbytes: int
    """of its arrays, all taken when it is made"""
    added: int
    """rows since the start, only those that could be drawn"""
    drawn: int
    """rows since the start: drawn / added is the measured replay ratio"""

    def add(self, rows: Any) -> int:
        """Keep what an actor handed on. Returns how many can be drawn now that could not before."""
        ...

    def draw(self, n: int, groups: int = 0) -> Batch | Sequences:
        """n rows, or, where groups K > 0, K minibatches of n with a leading axis [K, n, ...]. Arrays are new."""
        ...

    def prioritise(self, key: Array, priority: Array) -> int:
        """New priorities for keys that were drawn. Returns how many still name what they named; others are ignored."""
        ...


class Written(NamedTuple):
    """What a store did with a message."""

    slots: Array
    """[M] where new rows lie"""
    rows: tuple[Array, Array]
    """(t, b) of each in the message"""
    gone: Array
    """[G] slots whose rows made room; some may be in `slots` again"""


class Store(Protocol):
    """Where rows lie."""

    slots: int
    nbytes: int

    def write(self, rows: Transitions) -> Written:
        """Keep the valid rows of a message, letting the oldest go where there is no room."""
        ...

    def read(self, slots: Array) -> Batch:
        """Rows at slots of any shape [...], as new arrays [..., *]; weights and keys are not the store's to say."""
        ...


class Choice(Protocol):
    """Which slots are drawn."""

    size: int
    nbytes: int

    def add(self, slots: Array, priority: Array | None) -> None:
        """Slots [M] that can be drawn from now on; none of them could before. Without priorities the highest so far."""
        ...

    def remove(self, slots: Array) -> None:
        """Slots [M] that cannot be drawn any longer; all of them could before."""
        ...

    def draw(self, groups: int, n: int, exponent: float) -> tuple[Array, Array]:
        """(slots, weights), each [groups, n]: weights (size * P(slot)) ** -exponent, over the largest in each group."""
        ...

    def prioritise(self, slots: Array, priority: Array) -> None:
        """New priorities for slots that can be drawn; of equal slots the last counts."""
        ...
