# SPDX-License-Identifier: Apache-2.0
"""Arrays with an entry for each slot: what a transition is made of."""

from typing import Any, Protocol

import numpy as np

from shoal.trees import tree_items, tree_map
from shoal.types import Array, Batch, Box, EnvSpec, PyTree, Transitions


class Column(Protocol):
    """Where one entry of observations lies, by slot."""

    lookback: int
    """slots before its own that an observation is read from as well"""

    def kinds(self, values: Array, goes_on: Array) -> Array | None:
        """How each of the observations [T, B, *] comes about, [T, B], for those that need other slots; see stacks."""
        ...

    def write(self, slots: Array, values: Array, kinds: Array | None) -> None:
        """Observations [T, B, *] of some streams to slots [T, B]."""
        ...

    def read(self, slots: Array) -> Array:
        """Values [..., *] at slots [...], in a new array."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """What it is kept in, in place."""
        ...


class Plain:
    """Whole observations."""

    lookback = 0

    def __init__(self, slots: int, shape: tuple[int, ...], dtype: str):
        self._values = np.zeros((slots, *shape), dtype)

    def kinds(self, values: Array, goes_on: Array) -> None:
        """Each stands for itself."""

    def write(self, slots: Array, values: Array, kinds: Array | None = None) -> None:
        """values [..., *] to slots [...]."""
        self._values[slots] = values

    def read(self, slots: Array) -> Array:
        """Values [..., *] at slots [...]."""
        return self._values.take(slots, axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        """The values."""
        return {"values": self._values}


def read_obs(columns: PyTree, slots: Array) -> PyTree:
    """Observations [..., *] at slots [...], in the form of their columns."""
    return tree_map(lambda column: column.read(slots), columns)


def named_arrays(columns: PyTree, name: str) -> dict[str, np.ndarray]:
    """Arrays of all columns, by names that tell them apart and can be those of files."""
    found: dict[str, np.ndarray] = {}
    for path, column in tree_items(columns):
        prefix = ".".join([name, *path.split("/")]) if path else name
        found |= {f"{prefix}.{part}": array for part, array in column.arrays().items()}
    return found


def action_dtype(spec: EnvSpec) -> str:
    """What actions are kept as."""
    return "float32" if isinstance(spec.action, Box) else "int32"


class RowColumns:
    """All of a transition but its observations."""

    def __init__(self, spec: EnvSpec, slots: int):
        self.action = np.zeros((slots, *spec.action.shape), action_dtype(spec))
        self.numbers = np.zeros(slots, [("reward", "f4"), ("discount", "f4"), ("steps", "i4"), ("version", "i4")])

    def write(self, slots: Array, rows: Transitions, where: tuple[Array, Array]) -> None:
        """Rows (t, b) [M] of a message to slots [M]."""
        self.action[slots] = rows.action[where]
        numbers = np.empty(len(slots), self.numbers.dtype)
        numbers["reward"], numbers["discount"] = rows.reward[where], rows.discount[where]
        numbers["steps"], numbers["version"] = rows.steps[where], rows.version[where[1]]
        self.numbers[slots] = numbers

    def read(self, slots: Array, obs: PyTree, following: Any) -> Batch:
        """Rows at slots [...] with their observations; `following(steps)` gives those that they lead to."""
        numbers = self.numbers.take(slots)
        return Batch(
            obs=obs,
            action=self.action.take(slots, axis=0),
            reward=numbers["reward"].copy(),
            discount=numbers["discount"].copy(),
            next_obs=following(numbers["steps"]),
            weight=np.ones(slots.shape, np.float32),
            key=slots,
            version=numbers["version"].astype(np.int64),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Actions and numbers."""
        return {"action": self.action, "numbers": self.numbers}
