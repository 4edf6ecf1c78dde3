# SPDX-License-Identifier: Apache-2.0
"""What all wires share: whose they are, who may use which side, and conditions to select on.

On processes wires stay in the main process and children hold handles; items are then parcels, whose arrays lie in
shared memory.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shoal.engines.faults import Ended
from shoal.engines.worker import Group, Worker
from shoal.errors import ShoalError

if TYPE_CHECKING:
    from shoal.engines.system import System


class Wire:
    """Base of all wires."""

    def __init__(self, system: "System", message: str):
        self.path, self.message = system.path, message
        self.kernel, self.ledger = system.kernel, system.ledger
        self.key: str | None = None
        """under which workers in other processes know it"""

    @property
    def kind(self) -> str:
        """channel, store, service, vector or reduction."""
        return type(self).__name__.lower()

    def index_of(self, worker: Worker, role: str, verb: str) -> int:
        """The worker's index in the role that may use this side of the wire; the ledger stays true by this check."""
        if worker.role == role and worker.path == self.path:  # its innermost system, the usual case
            return worker.index
        mine = worker.roles.get(self.path)
        if mine is None or mine[0] != role:
            who = f"{mine[0]}/{mine[1]}" if mine else f"{worker}, which is not in that system,"
            raise ShoalError(
                f"{self.path} {who} cannot {verb} {self.message}: this side belongs to role {role!r}; "
                "let that role do it, or declare the wire otherwise"
            )
        return mine[1]

    def role_ended(self, role: str) -> None:
        """The last worker of a role has ended. Called with the lock held."""

    def close(self) -> None:
        """Its system has been left, all workers have ended."""


class VersionLine:
    """Those who wait for a version to come out. All methods are called with the lock held."""

    def __init__(self, wire: Wire, owners: Group, owner: str):
        self._wire, self._owners, self._owner = wire, owners, owner
        self._waiting: list[tuple[Worker, int]] = []

    def wait(self, worker: Worker, at_least: int, latest: int) -> None:
        """Wait until `reached` was told this version; raises Ended when every owner has ended before."""
        wire, place = self._wire, (worker, at_least)
        if not self._owners.ended:
            self._waiting.append(place)
            try:
                wire.kernel.park(worker, f"pull {wire.message}", f"version {at_least}, latest is {latest}")
            finally:
                unserved = place in self._waiting
                if unserved:
                    self._waiting.remove(place)
            if not unserved:
                return
        who = f"every {self._owner} of {wire.path} has ended"
        raise Ended(f"pull {wire.message}: {who}, version {at_least} will not come")

    @property
    def waited_for(self) -> list[int]:
        """The versions that somebody waits for."""
        return [version for _, version in self._waiting]

    def reached(self, version: int) -> None:
        """Wake those who waited for this version or an earlier one."""
        for place in [p for p in self._waiting if p[1] <= version]:
            self._waiting.remove(place)
            self._wire.kernel.wake(place[0])

    def give_up(self) -> None:
        """No version will come any more."""
        for worker, _ in self._waiting:
            self._wire.kernel.wake(worker)


class Condition:
    """Something a worker can select on."""

    __slots__ = ("_check", "kernel", "served", "text", "watchers")

    def __init__(self, kernel: Any, text: str, check: Callable[[], bool]):
        self.kernel, self.text, self._check = kernel, text, check
        self.watchers: list[Worker] = []
        self.served = 0
        """when `select` last chose it, as a count of choices"""

    def ready(self) -> bool:
        """Whether the operation would go ahead without waiting (or raise Ended)."""
        return self._check()

    def changed(self) -> None:
        """Wake those who watch. Called with the lock held, when the check may have become true."""
        for worker in list(self.watchers):
            self.kernel.wake(worker)
