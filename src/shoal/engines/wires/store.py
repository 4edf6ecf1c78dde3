# SPDX-License-Identifier: Apache-2.0
"""A versioned store: its owner publishes, anybody pulls. Nobody is made to keep up."""

from collections import deque
from typing import TYPE_CHECKING, Any

from shoal.engines.ledger import ANY_ROLE, Row
from shoal.engines.payload import nbytes
from shoal.engines.wires.base import VersionLine, Wire
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.engines.system import System


class Store(Wire):
    """Made by `System.store`. `version` is that of the latest value.

    The ledger counts a pull only when the version is new to the worker that pulls.
    """

    def __init__(
        self, system: "System", message: str, owner: str, value: Any, version: int, keep: int, target: str | None
    ):
        super().__init__(system, message)
        if keep < 1:
            raise ConfigError(f"store {message} keeps {keep} versions: it must keep at least 1")
        self.owner, self.version, self.keep = owner, version, keep
        self._line = VersionLine(self, system.group(owner), owner)
        first = [self.kernel.wrap(system.body, value), version, system.body, nbytes(value)]
        self._kept: deque[list[Any]] = deque([first], maxlen=keep)
        self._seen: dict[Worker, int | tuple[int, int]] = {}
        """the latest version of each worker, and its epoch where it was started anew"""
        self._rows: dict[str, Row] = {}
        self._own_rows: dict[str, Row] = {}
        self.ledger.row(self.path, owner, target or ANY_ROLE, message, self.kernel.via)
        self._pull_text = f"pull {message}"

    def publish(self, value: Any) -> int:
        """Make this the latest value; returns its version. The value must not change afterwards."""
        worker = here()
        self.index_of(worker, self.owner, "publish")
        kept, size = self.kernel.wrap(worker, value), nbytes(value)
        with self.kernel.lock:
            self.version += 1
            self._kept.append([kept, self.version, worker, size])
            self._line.reached(self.version)
            return self.version

    def pull(self, at_least: int = 0, behind: int = 0) -> tuple[Any, int]:
        """The latest (value, version).

        Args:
          at_least: wait until a version this high is out. The latest may by then be higher still.
          behind: that many versions before the latest, or the oldest kept while there are fewer.
        """
        worker = here()
        if behind >= self.keep:
            raise ConfigError(f"pull(behind={behind}) of {self.message}: it keeps {self.keep}; use keep={behind + 1}")
        kernel = self.kernel
        with kernel.lock:
            if self.version < at_least:
                self._line.wait(worker, at_least, self.version)
            kept = self._kept
            value, version, maker, size = kept[-1 - behind] if behind < len(kept) else kept[0]
            seen = (version, worker.epoch) if worker.epoch else version
            fresh = self._seen.get(worker) != seen
            if fresh:
                self._seen[worker] = seen
                self._row_to(worker, maker is worker).add(size)
        if fresh and kernel.charges:
            kernel.charge(worker, self._pull_text, size, self.owner)
        return kernel.unwrap(worker, value, shared=True), version

    @property
    def latest(self) -> int:
        """The version, for who measures lags against it."""
        return self.version

    def role_ended(self, role: str) -> None:
        if role == self.owner:
            self._line.give_up()

    def _row_to(self, worker: Worker, own: bool) -> Row:
        """Of what a worker pulls; its `own` is what it published itself."""
        role = worker.role if worker.path == self.path else worker.roles.get(self.path, (worker.role,))[0]
        rows = self._own_rows if own else self._rows
        row = rows.get(role)
        if row is None:
            via = "call" if own else self.kernel.via
            row = rows[role] = self.ledger.row(self.path, self.owner, role, self.message, via)
        return row
