# SPDX-License-Identifier: Apache-2.0
"""A service: requests gathered into batches, answers by ticket.

A batch goes out when it is full, when its oldest request has waited `deadline_s` (in virtual time on scheduled
engines, where a phase without a cost table takes UNIT_COST), or when every live client waits, since then no further
request can come.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from shoal.engines.faults import Ended, MessageLost
from shoal.engines.payload import nbytes
from shoal.engines.wires.base import Wire
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError, ShoalError

if TYPE_CHECKING:
    from shoal.engines.system import System


class Request(NamedTuple):
    """What the server takes."""

    item: Any
    index: int
    """of the client in its role"""
    epoch: int
    """of the client: a higher one than before means that it was restarted"""
    ticket: int


class _Open:
    """A request without its answer, or an answer not yet fetched."""

    __slots__ = ("answer", "answer_nbytes", "answered", "client", "epoch", "lost", "nbytes", "sent", "server", "taken")

    def __init__(self, client: Worker, size: int, sent: float):
        self.client, self.epoch, self.nbytes, self.sent = client, client.epoch, size, sent
        self.answered = self.lost = False
        self.answer: Any = None
        self.answer_nbytes = 0
        self.server: Worker | None = None
        self.taken: tuple[Worker, Request] | None = None
        """by whom, until it is answered"""


class Service(Wire):
    """Made by `System.service`."""

    def __init__(
        self, system: "System", ask: str, answer: str, source: str, target: str, batch: int, deadline_s: float
    ):
        super().__init__(system, ask)
        if batch < 1:
            raise ConfigError(f"service {ask} has batch {batch}: it must be at least 1")
        self.answer, self.source, self.target, self.batch, self.deadline_s = answer, source, target, batch, deadline_s
        self._clients, self._servers_group = system.group(source), system.group(target)
        self._clients.on_idle.append(self._flush)
        self._pending: deque[Request] = deque()
        self._open: dict[int, _Open] = {}
        self._servers: deque[Worker] = deque()
        self._epochs: dict[Worker, int] = {}
        """of servers, when they took last"""
        self._tickets = 0
        self._ask_row = self.ledger.row(self.path, source, target, ask, self.kernel.via)
        self._answer_row = self.ledger.row(self.path, target, source, answer, self.kernel.via)
        self._call_text, self._take_text = f"call {ask}", f"take {ask}"
        self._send_text, self._reply_text = f"send {ask}", f"reply {answer}"

    def call(self, item: Any) -> Any:
        """Ask and wait for the answer."""
        return self.result(self.send(item))

    def send(self, item: Any) -> int:
        """Ask; returns the ticket for `result`. Does not wait."""
        worker = here()
        index = self.index_of(worker, self.source, "send")
        opened = _Open(worker, nbytes(item), 0.0)
        item = self.kernel.wrap(worker, item)
        if self.kernel.charges:
            self.kernel.charge(worker, self._send_text, opened.nbytes, self.target)
        with self.kernel.lock:
            opened.sent = self.kernel.time()
            self._tickets += 1
            ticket = self._tickets
            self._open[ticket] = opened
            self._pending.append(Request(item, index, worker.epoch, ticket))
            if self._servers:
                if self._ripe():
                    self._flush()
                elif len(self._pending) == 1:
                    self.kernel.set_deadline(self._servers[0], opened.sent + self.deadline_s)
        return ticket

    def result(self, ticket: int) -> Any:
        """The answer to a request, once; waits for it. Raises Ended when nobody is left to answer."""
        worker = here()
        with self.kernel.lock:
            opened = self._open.get(ticket)
            if opened is None or opened.client is not worker:
                raise ShoalError(f"{worker} has no open request {ticket} of {self.message}: a ticket is good for once")
            try:
                while not opened.answered:
                    if self._servers_group.ended:
                        raise Ended(f"call {self.message}: every {self.target} of {self.path} has ended")
                    if opened.lost:
                        raise MessageLost(f"call {self.message}: the request lay on a node that is gone")
                    self.kernel.park(worker, self._call_text)
            finally:
                del self._open[ticket]
            self._count(opened, worker)
        return self.kernel.unwrap(worker, opened.answer)

    def take(self) -> list[Request]:
        """The next batch of requests, at least one; waits for it. Raises Ended when no client is left.

        A server that was started anew gets first what it had taken before and not answered.
        """
        worker = here()
        self.index_of(worker, self.target, "take")
        with self.kernel.lock:
            if self._epochs.setdefault(worker, worker.epoch) != worker.epoch:
                self._epochs[worker] = worker.epoch
                self._put_back(worker)
            while not self._ripe():
                self._wait_for_requests(worker)
            batch = [self._pending.popleft() for _ in range(min(self.batch, len(self._pending)))]
            for request in batch:
                opened = self._open.get(request.ticket)
                if opened is not None:
                    opened.taken = worker, request
                    own = opened.client is worker
                    self._row(own, self._ask_row).add(opened.nbytes)
        taken = []
        for request in batch:
            try:
                taken.append(request._replace(item=self.kernel.unwrap(worker, request.item)))
            except MessageLost:
                self.lost(request.ticket)
        return taken or self.take()

    def lost(self, ticket: int) -> None:
        """A request is gone with the node that it lay on: count it, and let go who asked, which ran there."""
        with self.kernel.lock:
            self.ledger.saw_loss(self.message)
            opened = self._open.get(ticket)
            if opened is not None:
                opened.lost, opened.taken = True, None
                if opened.client.waiting_in == self._call_text:
                    self.kernel.wake(opened.client)

    def reply(self, requests: Sequence[Request], answers: Sequence[Any]) -> None:
        """Answer requests, in their order. An answer to a client that is gone or was restarted is thrown away."""
        worker = here()
        self.index_of(worker, self.target, "reply to")
        if len(requests) != len(answers):
            raise ShoalError(f"reply to {self.message}: {len(requests)} requests but {len(answers)} answers")
        if self.kernel.charges:
            self.kernel.charge(worker, self._reply_text, nbytes(answers), self.source, len(answers))
        wrapped = [
            (request.ticket, self.kernel.wrap(worker, a), nbytes(a))
            for request, a in zip(requests, answers, strict=True)
        ]
        with self.kernel.lock:
            for ticket, answer, size in wrapped:
                self._hand_over(worker, ticket, answer, size)

    def role_ended(self, role: str) -> None:
        if role == self.source:
            for server in list(self._servers):
                self.kernel.wake(server)
        if role == self.target:
            for opened in list(self._open.values()):
                if opened.client.waiting_in == self._call_text:
                    self.kernel.wake(opened.client)

    def _put_back(self, server: Worker) -> None:
        left = [o.taken[1] for o in self._open.values() if o.taken is not None and o.taken[0] is server]
        self._pending.extendleft(reversed(left))

    def _ripe(self) -> bool:
        pending = self._pending
        if not pending:
            return False
        if len(pending) >= self.batch or self._clients.idle:
            return True
        opened = self._open.get(pending[0].ticket)
        return opened is None or self.kernel.time() >= opened.sent + self.deadline_s

    def _flush(self) -> None:
        if self._pending and self._servers:
            self.kernel.wake(self._servers.popleft())

    def _wait_for_requests(self, worker: Worker) -> None:
        deadline = None
        if self._pending:
            deadline = self._open[self._pending[0].ticket].sent + self.deadline_s
        elif self._clients.ended:
            raise Ended(f"take {self.message}: every {self.source} of {self.path} has ended")
        self._servers.append(worker)
        try:
            self.kernel.park(worker, self._take_text, deadline=deadline)
        finally:
            if worker in self._servers:
                self._servers.remove(worker)

    def _hand_over(self, worker: Worker, ticket: int, answer: Any, size: int) -> None:
        opened = self._open.get(ticket)
        if opened is None:
            return
        opened.taken = None
        if opened.client.ended or opened.client.epoch != opened.epoch:
            del self._open[ticket]
            return
        opened.answer, opened.answered, opened.server, opened.answer_nbytes = answer, True, worker, size
        if opened.client.waiting_in == self._call_text:
            self.kernel.wake(opened.client)

    def _count(self, opened: _Open, worker: Worker) -> None:
        self._row(opened.server is worker, self._answer_row).add(opened.answer_nbytes)

    def _row(self, own: bool, row: Any) -> Any:
        return self.ledger.row(row.system, row.source, row.target, row.message, "call") if own else row
