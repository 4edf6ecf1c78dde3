# SPDX-License-Identifier: Apache-2.0
"""Arrays with a row for each slot: what a transition is made of."""

from typing import Protocol

import numpy as np

from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, Batch, Box, EnvSpec, PyTree, Transitions


class Column(Protocol):
    """Where observations of one entry lie, by slot."""

    nbytes: int

    def write(self, slots: Array, values: Array) -> None:
        """values [T, B, ...] to slots [T, B], in order of time."""
        ...

    def read(self, slots: Array) -> Array:
        """Values [..., *] at slots [...], in a new array."""
        ...


class Plain:
    """One array: whatever the observation is, whole."""

    def __init__(self, slots: int, shape: tuple[int, ...], dtype: str):
        self.values = np.zeros((slots, *shape), dtype)
        self.nbytes = self.values.nbytes

    def write(self, slots: Array, values: Array) -> None:
        """values [T, B, ...] to slots [T, B]."""
        self.values[slots] = values

    def read(self, slots: Array) -> Array:
        """Values [..., *] at slots [...]."""
        return self.values.take(slots, axis=0)


class Columns:
    """Observations, and beside them action, reward, discount, steps and version of each row.

    Args:
      obs: a column for each leaf of the observation.
    """

    def __init__(self, spec: EnvSpec, slots: int, obs: PyTree):
        self.obs = obs
        self.action = np.zeros((slots, *spec.action.shape), "float32" if isinstance(spec.action, Box) else "int32")
        self.reward = np.zeros(slots, np.float32)
        self.discount = np.zeros(slots, np.float32)
        self.steps = np.zeros(slots, np.int32)
        self.version = np.zeros(slots, np.int64)
        rows = (self.action, self.reward, self.discount, self.steps, self.version)
        self.nbytes = sum(array.nbytes for array in rows) + sum(column.nbytes for column in tree_leaves(obs))

    def write_obs(self, slots: Array, obs: PyTree) -> None:
        """obs [T, B, ...] to slots [T, B]."""
        tree_map(lambda column, values: column.write(slots, values), self.obs, obs)

    def read_obs(self, slots: Array) -> PyTree:
        """Observations [..., *] at slots [...]."""
        return tree_map(lambda column: column.read(slots), self.obs)

    def write_rows(self, slots: Array, rows: Transitions, where: tuple[Array, Array]) -> None:
        """All else of the rows (t, b) [M] of a message to slots [M]."""
        for column, values in zip(
            (self.action, self.reward, self.discount, self.steps),
            (rows.action, rows.reward, rows.discount, rows.steps),
            strict=True,
        ):
            column[slots] = values[where]
        self.version[slots] = rows.version[where[1]]

    def read(self, slots: Array, following: Array) -> Batch:
        """Rows at slots [...] that lead to the observations at slots `following` [...]."""
        return Batch(
            obs=self.read_obs(slots),
            action=self.action[slots],
            reward=self.reward[slots],
            discount=self.discount[slots],
            next_obs=self.read_obs(following),
            weight=np.ones(slots.shape, np.float32),
            key=slots,
            version=self.version[slots],
        )
