# SPDX-License-Identifier: Apache-2.0
"""A shared vector: flat params that many workers pull from and push gradients to, after Hogwild and DistBelief.

The vector holds the rule as well as the params, because moments are shared. On threads and processes no lock is held
while a rule works: pushes may overlap and shards need not agree on a version, which is what the algorithms built on it
accept. On processes it lies in shared memory, where workers read and write it themselves. Across hosts it becomes a
service per shard.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shoal.engines.ledger import ANY_ROLE, Row
from shoal.engines.wires.base import VersionLine, Wire
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError
from shoal.processes.memory import align

if TYPE_CHECKING:
    from shoal.engines.system import System

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""rule(params [n], moments [k, n], grad [n]): changes params and moments in place, for one shard of n numbers."""


class Body:
    """The numbers and the rule, over any memory: a version word, the params [N], and moments [k, N]."""

    def __init__(self, buffer: Any, size: int, dtype: Any, moments: int, shards: int, rule: Rule):  # noqa: PLR0913
        self.rule, self.shards = rule, shards
        row = align(size * np.dtype(dtype).itemsize)
        self.word = np.ndarray((1,), np.int64, buffer)
        self.flat = np.ndarray((size,), dtype, buffer, align(8))
        padded = row // np.dtype(dtype).itemsize
        self.moments = np.ndarray((moments, padded), dtype, buffer, align(8) + row)[:, :size]
        bounds = np.linspace(0, size, shards + 1).astype(int)
        self._parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    @staticmethod
    def size_of(size: int, dtype: Any, moments: int) -> int:
        """Bytes that it takes."""
        return align(8) + align(size * np.dtype(dtype).itemsize) * (1 + moments)

    def refuse_shape(self, grad: np.ndarray) -> None:
        """Raises ConfigError for a gradient that does not fit."""
        if grad.shape != self.flat.shape:
            raise ConfigError(f"gradient of shape {grad.shape} for params of shape {self.flat.shape}")

    def apply(self, grad: np.ndarray) -> None:
        """The rule, shard by shard, in place."""
        for part in self._parts:
            self.rule(self.flat[part], self.moments[:, part], grad[part])


class Vector(Wire):
    """Made by `System.vector`. `version` counts the pushes applied.

    Args:
      init: [N] initial params; copied.
      shards: number of parts the rule is called for, one after the other.
      moments: k, rows of zeros that the rule keeps its state in.
      source: role that pushes; its wires are then in the ledger from the start, and its end ends a wait for versions.
      max_lag: a gradient more pushes old than this is thrown away and counted in `rejected`.
    """

    def __init__(  # noqa: PLR0913 one call, in System.vector
        self,
        system: "System",
        owner: str,
        init: Any,
        rule: Rule,
        shards: int,
        moments: int,
        source: str | None,
        max_lag: int | None,
    ):
        super().__init__(system, "PARAM")
        self.owner, self.rejected = owner, 0
        first = np.asarray(init)
        if first.ndim != 1 or not 1 <= shards <= first.size:
            raise ConfigError(f"vector of shape {first.shape} in {shards} shards: flat params, 1 to N shards")
        buffer, self.segment = self.kernel.allocate(Body.size_of(first.size, first.dtype, moments))
        self.body = Body(buffer, first.size, first.dtype, moments, shards, rule)
        self.body.flat[:] = first
        self._line = VersionLine(self, system.group(source or owner), source or owner)
        self._source, self.max_lag = source, max_lag
        self._seen: dict[Worker, tuple[int, int]] = {}
        self._rows: dict[tuple[str, str], Row] = {}
        self.ledger.row(self.path, owner, source or ANY_ROLE, "PARAM", self.kernel.via)
        if source is not None:
            self.ledger.row(self.path, source, owner, "GRAD", self.kernel.via)

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        """A copy of the params [N], and the number of pushes in them (at least: others may push meanwhile).

        The ledger counts it when the version is new to the worker and the worker is not the owner itself.

        Args:
          at_least: wait until that many pushes were applied.
        """
        version = self.reach(at_least)
        flat = self.body.flat.copy()
        self.count_pull(version)
        return flat, version

    def reach(self, at_least: int) -> int:
        """The version, once that many pushes were applied."""
        worker = here()
        if self.version < at_least:
            with self.kernel.lock:
                if self.version < at_least:
                    self._line.wait(worker, at_least, self.version)
        return self.version

    def count_pull(self, version: int) -> None:
        """The current worker has copied the params of this version."""
        worker, size = here(), self.body.flat.nbytes
        with self.kernel.lock:
            if self._seen.get(worker) != (version, worker.epoch):
                self._seen[worker] = (version, worker.epoch)
                if worker.roles.get(self.path, ("",))[0] != self.owner:
                    self._row(worker, "PARAM").add(size)
        if self.kernel.charges:
            self.kernel.charge(worker, "pull PARAM", size)

    def push(self, grad: np.ndarray, version: int) -> int:
        """Apply a gradient [N] made from the params of that version; returns the version after it.

        The work is timed, and in virtual time charged, as a phase named push.
        """
        worker = here()
        self.body.refuse_shape(grad)
        lag = self.version - version
        stale = self.max_lag is not None and lag > self.max_lag
        if not stale:
            self.kernel.run_wire_work(worker, "push", self.body.apply, (grad,))
        return self.count_push(lag, stale)

    def count_push(self, lag: int, stale: bool) -> int:
        """The current worker has applied a gradient, or was told that it is too old; returns the version after it."""
        worker = here()
        with self.kernel.lock:
            self._row(worker, "GRAD").add(self.body.flat.nbytes, lag)
            if stale:
                self.rejected += 1
            else:
                self.body.word[0] += 1
                self._line.reached(self.version)
            return self.version

    @property
    def version(self) -> int:
        """Pushes applied."""
        return int(self.body.word[0])

    def role_ended(self, role: str) -> None:
        if role == (self._source or self.owner):
            self._line.give_up()

    def _row(self, worker: Worker, message: str) -> Row:
        role = worker.roles.get(self.path, (worker.role,))[0]
        row = self._rows.get((role, message))
        if row is None:
            ends = (role, self.owner) if message == "GRAD" else (self.owner, role)
            row = self._rows[role, message] = self.ledger.row(self.path, *ends, message, self.kernel.via)
        return row
