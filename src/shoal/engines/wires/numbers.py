# SPDX-License-Identifier: Apache-2.0
"""What a shared vector is made of, over any memory: params, moments, the rule, and who has pushed how often.

    words | torn marks of chunks | a lane of counts for every worker | params [N] | moments | undo copies

Every worker counts in a lane of its own, so that no count has two writers and none needs a lock; sums of lanes are the
version and the samples. Where chunks are exchanged under locks, a chunk is copied before it is written to, so that one
whose writer was killed in between can be restored by whoever holds its lock next.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from shoal.errors import ConfigError, ShoalError
from shoal.processes.memory import align

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray, float], None]
"""rule(params [n], moments [k, n], grad [n] or [m, n], rate): changes params and moments in place, number by number"""

Lane = memoryview
"""whole numbers [8], one for each of the names below"""
LANES = 1024
"""workers that may push to one vector"""
VERSION, SAMPLES, WANTED, USED = range(4)
PUSHES, SEEN, REJECTED, LAG_SUM, LAG_MAX, PULLS, SENT = range(7)
NEVER = 2**63 - 1


class Form:
    """How large the parts are: all that another process must know to find them.

    Args:
      moments: () for none, (k,) for rows that all workers share, (workers, k) for rows of each worker's own.
    """

    def __init__(self, size: int, dtype: str, moments: tuple[int, ...], shards: int, locked: bool):  # noqa: PLR0913
        self.size, self.dtype, self.moments, self.shards, self.locked = size, dtype, tuple(moments), shards, locked
        item = np.dtype(dtype).itemsize
        self.row = align(size * item) // item
        self.rows = int(np.prod(moments))
        self.head = align(8 * (4 + shards)) + 64 * LANES
        self.nbytes = self.head + self.row * item * (1 + self.rows) * (2 if locked else 1)

    def as_given(self, rows: np.ndarray) -> np.ndarray:
        """Rows of moments in the form in which they were given, [k, N] or [workers, k, N]."""
        return rows.reshape(*self.moments, self.size)

    def refuse(self, worker: Any, grad: np.ndarray, verb: Literal["push", "exchange"]) -> None:
        """Raises ConfigError for a gradient that does not fit, ShoalError for the verb of the other kind of vector."""
        if grad.shape[-1:] != (self.size,) or grad.ndim > 2:
            raise ConfigError(f"gradient of shape {grad.shape} for params of shape {(self.size,)}")
        if self.locked and verb == "push":
            raise ShoalError(f"{worker} pushes to a vector under locks: use exchange")
        if not self.locked and verb == "exchange":
            raise ShoalError(f"{worker} exchanges with a vector without locks: declare it locked, or use push")

    @property
    def facts(self) -> list[Any]:
        """The arguments that make it, as plain numbers and text."""
        return [self.size, self.dtype, list(self.moments), self.shards, self.locked]


class Numbers:
    """The parts, as arrays over memory that starts out as zeros."""

    def __init__(self, buffer: Any, form: Form, rule: Rule):
        self.form, self.rule = form, rule
        whole = memoryview(buffer).cast("B")  # single words are read and written faster through it than by NumPy
        self.words = whole[:32].cast("q")
        self.torn = np.ndarray((form.shards,), np.int64, buffer, 32)
        self._lanes = whole[form.head - 64 * LANES : form.head].cast("q")
        rows = np.ndarray((1 + form.rows, form.row), form.dtype, buffer, form.head)[:, : form.size]
        self._rows = rows
        self.flat = rows[0]
        self._moments = rows[1:]
        if form.locked:
            at = form.head + rows.strides[0] * len(rows)
            self._undo = np.ndarray((1 + form.rows, form.row), form.dtype, buffer, at)[:, : form.size]
        bounds = np.linspace(0, form.size, form.shards + 1).astype(int).tolist()
        self.parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    @property
    def version(self) -> int:
        """Pushes applied, those before this vector was made included."""
        return self._sum(VERSION, PUSHES)

    @property
    def samples(self) -> int:
        """Samples that the pushes stood for."""
        return self._sum(SAMPLES, SEEN)

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return sum(self._column(REJECTED))

    def blank(self) -> np.ndarray:
        """Where a copy of params and moments has room, [1 + rows of moments, N]."""
        return np.empty(self._rows.shape, self._rows.dtype)

    def begin(self, params: np.ndarray, moments: np.ndarray | None, version: int, samples: int) -> None:
        """First numbers and counts."""
        self.flat[:] = params
        if moments is not None:
            self._moments[:] = moments.reshape(self._moments.shape)
        for word, value in ((VERSION, version), (SAMPLES, samples), (WANTED, NEVER), (USED, 0)):
            self.words[word] = value

    def lane(self, number: int) -> Lane:
        """The counts of one worker, who alone writes them."""
        return self._lanes[8 * number : 8 * number + 8]

    def count(self, lane: Lane, lag: int, samples: int, nbytes: int) -> None:
        """A push was applied; called by the lane's worker only."""
        lane[PUSHES] += 1
        lane[SEEN] += samples
        self._saw(lane, lag, nbytes)

    def push(self, lane: Lane, index: int, grad: np.ndarray, version: int, rate: float, samples: int) -> int:  # noqa: PLR0913
        """The rule on all of it, shard by shard, in place and without a lock, counted in the worker's lane; returns the
        version that came of it, had nobody else pushed meanwhile."""
        lag = self.version - version
        for chunk in range(self.form.shards):
            self.apply(chunk, index, grad, rate)
        self.count(lane, lag, samples, grad.nbytes)
        return version + lag + 1

    def apply(self, chunk: int, index: int, grad: np.ndarray, rate: float) -> None:
        """The rule on one chunk, with the moments that are for this worker."""
        part = self.parts[chunk]
        self.rule(self.flat[part], self._moments_of(index)[:, part], grad[..., part], rate)

    def reject(self, lane: Lane, lag: int, samples: int, nbytes: int) -> None:
        """A push was too old; what it stood for was seen all the same."""
        lane[REJECTED] += 1
        lane[SEEN] += samples
        self._saw(lane, lag, nbytes)

    def exchange(self, chunk: int, grad: np.ndarray, rate: float, index: int, out: np.ndarray) -> None:  # noqa: PLR0913
        """The rule on one chunk by whoever holds its lock; what came of it is copied to `out` (see `blank`).

        Check: a chunk whose writer was killed at any point is as it was before, or as it should be after.
        """
        part = self.parts[chunk]
        self._mend(chunk)
        self._undo[:, part] = self._rows[:, part]
        self.torn[chunk] = 1
        self.apply(chunk, index, grad, rate)
        self.torn[chunk] = 0
        out[:, part] = self._rows[:, part]

    def copy_chunk(self, chunk: int, out: np.ndarray, first: int = 0) -> None:
        """Copy one chunk to `out` [rows, N] (see `blank`), from row `first` on, by whoever holds its lock."""
        self._mend(chunk)
        out[:, self.parts[chunk]] = self._rows[first : first + len(out), self.parts[chunk]]

    def copy(self) -> np.ndarray:
        """Params and moments [1 + rows, N] as they are, whoever writes to them meanwhile."""
        return self._rows.copy()

    def _mend(self, chunk: int) -> None:
        """Undo what a killed writer left half done."""
        if self.torn[chunk]:
            part = self.parts[chunk]
            self._rows[:, part] = self._undo[:, part]
            self.torn[chunk] = 0

    def _moments_of(self, index: int) -> np.ndarray:
        if len(self.form.moments) < 2:
            return self._moments
        workers, k = self.form.moments
        if index >= workers:
            raise ConfigError(f"worker {index} pushes to a vector with moments for {workers}: make it for all of them")
        return self._moments[index * k : (index + 1) * k]

    def _sum(self, word: int, column: int) -> int:
        return self.words[word] + sum(self._column(column))

    def _column(self, column: int) -> memoryview:
        """One count of all workers."""
        return self._lanes[column : 8 * self.words[USED] : 8]

    @staticmethod
    def _saw(lane: Lane, lag: int, nbytes: int) -> None:
        lane[SENT] += nbytes
        lane[LAG_SUM] += lag
        if lag > lane[LAG_MAX]:
            lane[LAG_MAX] = lag
