# SPDX-License-Identifier: Apache-2.0
"""Unrolls in shared memory: one buffer [T, B, ...] that all workers of a sampler write into, each its share of B.

A buffer is lent out with the trajectory that lies in it, and comes back with the last array over it: in a batch, in a
view, or in a JAX array that uses the memory in place. So what was handed on is never overwritten while it is read.
"""

import itertools
import math
import weakref

import numpy as np

from shoal.actors.rollout import column_forms
from shoal.processes.memory import Segment, align
from shoal.trees import read_at, tree_leaves, tree_map
from shoal.types import ArraySpec, EnvSpec, PyTree, Trajectory


def unroll_forms(spec: EnvSpec, memory: PyTree, length: int, num_envs: int, *, discounted: bool) -> Trajectory:
    """A trajectory with an ArraySpec in place of every array; `version` is left out.

    Args:
      memory: recurrent memory of any number of environments, or ().
      discounted: whether discounted returns are kept.
    """

    def rows(dtype: str) -> ArraySpec:
        return ArraySpec((length, num_envs), dtype)

    return Trajectory(
        **column_forms(spec, length, num_envs)._asdict(),
        log_prob=rows("float32"),
        memory=tree_map(lambda leaf: ArraySpec((num_envs, *leaf.shape[1:]), leaf.dtype.name), memory),
        version=(),
        episode_return=rows("float32"),
        episode_length=rows("int32"),
        discounted_return=rows("float32") if discounted else (),
    )


def size_of(forms: Trajectory) -> int:
    """Bytes of a buffer for arrays of these forms."""
    return sum(_nbytes(form) for form in tree_leaves(forms))


def arrays_over(memory: np.ndarray, forms: Trajectory) -> Trajectory:
    """Views of memory [bytes] uint8.

    Check: two views of one segment show each other's writing, and no array overlaps another.
    """
    at = 0

    def cut(form: ArraySpec) -> np.ndarray:
        nonlocal at
        size = math.prod(form.shape) * np.dtype(form.dtype).itemsize
        array = memory[at : at + size].view(form.dtype).reshape(form.shape)
        at += _nbytes(form)
        return array

    return tree_map(cut, forms)


def share_of(arrays: Trajectory, slots: slice) -> Trajectory:
    """Views of some environments' part."""
    rows = read_at(arrays._replace(memory=()), (slice(None), slots))
    return rows._replace(memory=read_at(arrays.memory, slots))


class Buffer:
    """A segment for one unroll."""

    _numbers = itertools.count()

    def __init__(self, length: int, size: int):
        self.number = next(Buffer._numbers)
        self.length = length
        self.segment = Segment.create(size, "an unroll that workers write")
        self.lent = False

    def lend(self, forms: Trajectory) -> Trajectory:
        """Arrays over the buffer, which is lent out until the last reference to any of them is gone."""
        root = self.segment.array((self.segment.size,), np.uint8)
        self.lent = True
        weakref.finalize(root, self._come_back).atexit = False
        return arrays_over(root, forms)

    def _come_back(self) -> None:
        self.lent = False


class Buffers:
    """As many buffers as receivers keep trajectories, and the one that is being written."""

    def __init__(self):
        self.all: list[Buffer] = []

    def free(self, length: int, size: int) -> Buffer:
        """A buffer for unrolls of so many steps that nobody reads. Raises MemoryShort."""
        self.all = [buffer for buffer in self.all if buffer.lent or buffer.length == length]
        for buffer in self.all:
            if not buffer.lent:
                return buffer
        self.all.append(Buffer(length, size))
        return self.all[-1]


def _nbytes(form: ArraySpec) -> int:
    return align(math.prod(form.shape) * np.dtype(form.dtype).itemsize)
