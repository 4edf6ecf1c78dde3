# SPDX-License-Identifier: Apache-2.0
"""Where actions and rows of environments lie in a segment that their workers and the owner of the pool share."""

import math
from typing import NamedTuple

import numpy as np

from shoal.processes.memory import Segment, align
from shoal.trees import read_at, tree_leaves, tree_map
from shoal.types import Array, ArraySpec, Box, EnvSpec, PyTree


class Rows(NamedTuple):
    """Arrays [N, ...] with one row for each environment: the last action it was sent, and what came of it."""

    ticket: Array
    """of the command that the row answers, written when all else of the row is there"""
    action: Array
    obs: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array

    def part(self, slots: slice) -> "Rows":
        """Views of some environments' rows."""
        return Rows(*read_at(tuple(self), slots))


def size_of(spec: EnvSpec, num_envs: int) -> int:
    """Bytes of a segment for so many environments."""
    return sum(_nbytes(form) for form in tree_leaves(tuple(_forms(spec, num_envs))))


def rows_over(segment: Segment, spec: EnvSpec, num_envs: int) -> Rows:
    """The arrays of a segment.

    Check: two views of one segment show each other's writing, and no array overlaps another.
    """
    at = 0

    def cut(form: ArraySpec) -> np.ndarray:
        nonlocal at
        array = segment.array(form.shape, form.dtype, at)
        at += _nbytes(form)
        return array

    return Rows(*tree_map(cut, tuple(_forms(spec, num_envs))))


def _nbytes(form: ArraySpec) -> int:
    return align(math.prod(form.shape) * np.dtype(form.dtype).itemsize)


def _forms(spec: EnvSpec, num_envs: int) -> Rows:
    """Shape and dtype of every array."""

    def rows(dtype: str, *shape: int) -> ArraySpec:
        return ArraySpec((num_envs, *shape), dtype)

    return Rows(
        ticket=rows("int64"),
        action=rows("float32" if isinstance(spec.action, Box) else "int64", *spec.action.shape),
        obs=tree_map(lambda leaf: rows(leaf.dtype, *leaf.shape), spec.obs),
        reward=rows("float32"),
        terminated=rows("bool"),
        truncated=rows("bool"),
        valid=rows("bool"),
    )
