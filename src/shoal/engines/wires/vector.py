# SPDX-License-Identifier: Apache-2.0
"""A shared vector: flat params that many workers pull from and push gradients to, after Hogwild and DistBelief.

The vector holds the rule as well as the params, because moments are shared. On threads no lock is held while a rule
works: pushes may overlap and shards need not agree on a version, which is what the algorithms built on it accept.
Across hosts it becomes a service per shard.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shoal.engines.ledger import ANY_ROLE, Row
from shoal.engines.wires.base import VersionLine, Wire
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.engines.system import System

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
"""rule(params [n], moments [k, n], grad [n]): changes params and moments in place, for one shard of n numbers."""


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
        self.owner, self.version, self.rejected = owner, 0, 0
        self._flat = np.array(init)
        if self._flat.ndim != 1 or not 1 <= shards <= self._flat.size:
            raise ConfigError(f"vector of shape {self._flat.shape} in {shards} shards: flat params, 1 to N shards")
        self._moments = np.zeros((moments, self._flat.size), self._flat.dtype)
        bounds = np.linspace(0, self._flat.size, shards + 1).astype(int)
        self._shards = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        self._line = VersionLine(self, system.group(source or owner), source or owner)
        self._rule, self._source, self._max_lag = rule, source, max_lag
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
        worker = here()
        if self.version < at_least:
            with self.kernel.lock:
                if self.version < at_least:
                    self._line.wait(worker, at_least, self.version)
        version = self.version
        flat = self._flat.copy()
        with self.kernel.lock:
            if self._seen.get(worker) != (version, worker.epoch):
                self._seen[worker] = (version, worker.epoch)
                if worker.roles.get(self.path, ("",))[0] != self.owner:
                    self._row(worker, "PARAM").add(flat.nbytes)
        if self.kernel.charges:
            self.kernel.charge(worker, "pull PARAM", flat.nbytes)
        return flat, version

    def push(self, grad: np.ndarray, version: int) -> int:
        """Apply a gradient [N] made from the params of that version; returns the version after it.

        The work is timed, and in virtual time charged, as a phase named push.
        """
        worker = here()
        if grad.shape != self._flat.shape:
            raise ConfigError(f"gradient of shape {grad.shape} for params of shape {self._flat.shape}")
        lag = self.version - version
        stale = self._max_lag is not None and lag > self._max_lag
        if not stale:
            self.kernel.run_wire_work(worker, "push", self._apply, (grad,))
        with self.kernel.lock:
            self._row(worker, "GRAD").add(grad.nbytes, lag)
            if stale:
                self.rejected += 1
            else:
                self.version += 1
                self._line.reached(self.version)
            return self.version

    def role_ended(self, role: str) -> None:
        if role == (self._source or self.owner):
            self._line.give_up()

    def _apply(self, grad: np.ndarray) -> None:
        for shard in self._shards:
            self._rule(self._flat[shard], self._moments[:, shard], grad[shard])

    def _row(self, worker: Worker, message: str) -> Row:
        role = worker.roles.get(self.path, (worker.role,))[0]
        row = self._rows.get((role, message))
        if row is None:
            ends = (role, self.owner) if message == "GRAD" else (self.owner, role)
            row = self._rows[role, message] = self.ledger.row(self.path, *ends, message, self.kernel.via)
        return row
