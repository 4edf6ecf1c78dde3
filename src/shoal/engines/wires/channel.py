# SPDX-License-Identifier: Apache-2.0
"""A bounded channel: items in the order they were put, handed over first come, first served on both sides."""

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Literal

from shoal.engines.faults import Ended, MessageLost
from shoal.engines.ledger import Row
from shoal.engines.payload import nbytes
from shoal.engines.wires.base import Condition, Wire
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.engines.system import System
    from shoal.engines.wires.store import Store
    from shoal.engines.wires.vector import Vector


class Entry:
    """An item on its way."""

    __slots__ = ("index", "item", "nbytes", "sender", "version")

    def __init__(self, item: Any, version: int | None, size: int, sender: Worker, index: int):
        self.item, self.version, self.nbytes, self.sender, self.index = item, version, size, sender, index


class Channel(Wire):
    """Made by `System.channel`. Many may put, many may get.

    Args:
      when_full: "block" lets put wait; "drop_oldest" throws the oldest item away and counts it in `dropped`.
      versions: the store that items' lag is measured against, when they are got.
      max_lag: items that many versions old are still given out; older ones are discarded and counted in `stale`.
    """

    def __init__(  # noqa: PLR0913 one call, in System.channel
        self,
        system: "System",
        message: str,
        source: str,
        target: str,
        capacity: int,
        when_full: Literal["block", "drop_oldest"],
        versions: "Store | Vector | None",
        max_lag: int | None,
    ):
        super().__init__(system, message)
        if capacity < 1:
            raise ConfigError(f"channel {message} has capacity {capacity}: it must hold at least 1 item")
        if when_full not in ("block", "drop_oldest"):
            raise ConfigError(f"when_full={when_full!r} is unknown: use block or drop_oldest")
        self.source, self.target, self.capacity, self.when_full = source, target, capacity, when_full
        self.dropped = self.stale = 0
        self._versions, self._max_lag = versions, max_lag
        if max_lag is not None and versions is None:
            raise ConfigError(f"channel {message} has max_lag={max_lag} but no versions to measure lag against")
        self._sources, self._targets = system.group(source), system.group(target)
        self._items: deque[Entry] = deque()
        self._getters: deque[Worker] = deque()
        self._putters: OrderedDict[Worker, Entry] = OrderedDict()
        self._row = self.ledger.row(self.path, source, target, message, self.kernel.via)
        body = system.body
        self.is_for_main = body.shadow is None and body.roles[system.path][0] == target
        """whether the body of the system gets the items, and that in the main process"""
        self._put_text, self._get_text = f"put {message}", f"get {message}"
        self.can_get = Condition(self.kernel, self._get_text, lambda: bool(self._items) or self._sources.ended)
        self.can_put = Condition(self.kernel, self._put_text, self._has_room)

    def put(self, item: Any, version: int | None = None) -> None:
        """Hand an item on; waits while the channel is full, if it blocks. Raises Ended when nobody is left to get it.

        Args:
          version: of the params that made it; without, its lag is not measured.
        """
        worker = here()
        index = self.index_of(worker, self.source, "put")
        entry = Entry(self.kernel.wrap(worker, item), version, nbytes(item), worker, index)
        if self.kernel.charges:
            self.kernel.charge(worker, self._put_text, entry.nbytes, self.target)
        with self.kernel.lock:
            if not self._accept(entry):
                self._wait_for_room(worker, entry)

    def get(self, n: int = 1, by_sender: bool = False) -> list[Any]:
        """The next n items as a list; waits for them, taking each as it comes, so n may exceed the capacity.

        Raises Ended when every source worker has ended and fewer than n items are left; those stay in the channel.

        Args:
          by_sender: sort the items by their sender's index, keeping each sender's order.
        """
        worker = here()
        self.index_of(worker, self.target, "get")
        with self.kernel.lock:
            self.ledger.saw_fill(self.message, len(self._items) / self.capacity)
            got: list[Entry] = []
            while len(got) < n:
                self._fill_up(worker, got, n)
                if self._max_lag is not None:
                    self._discard_stale(worker, got, self._max_lag)
            self._count(worker, got)
        if by_sender:
            got.sort(key=lambda entry: entry.index)
        items = [entry.item for entry in got]
        return self._unwrapped(worker, items) if self.kernel.wraps else items

    def lost(self) -> list[Any]:
        """What was got is gone with the node that it lay on: count it, and get the next item instead."""
        with self.kernel.lock:
            self.ledger.saw_loss(self.message)
        return self.get()

    def role_ended(self, role: str) -> None:
        if role == self.source:
            for getter in list(self._getters):
                self.kernel.wake(getter)
            self.can_get.changed()
        if role == self.target:
            for putter in list(self._putters):
                self.kernel.wake(putter)
            self.can_put.changed()

    def _unwrapped(self, worker: Worker, items: list[Any]) -> list[Any]:
        values = []
        for item in items:
            try:
                values.append(self.kernel.unwrap(worker, item))
            except MessageLost:
                values += self.lost()
        return values

    def _has_room(self) -> bool:
        return self._targets.ended or self.when_full != "block" or len(self._items) < self.capacity

    def _accept(self, entry: Entry) -> bool:
        """Pass an item to who waits for it, or keep it; False when there is no room."""
        if self._targets.ended:
            raise Ended(f"put {self.message}: every {self.target} of {self.path} has ended; nobody is left to get it")
        if self._getters:
            getter = self._getters[0]
            getter.inbox.append(entry)
            if len(getter.inbox) == getter.wanted:
                self._getters.popleft()
                self.kernel.wake(getter)
            return True
        if len(self._items) >= self.capacity:
            if self.when_full == "block":
                return False
            self._items.popleft()
            self.dropped += 1
            self.ledger.saw_drop(self.message)
        self._items.append(entry)
        if self.can_get.watchers:
            self.can_get.changed()
        return True

    def _fill_up(self, worker: Worker, got: list[Entry], n: int) -> None:
        items = self._items
        while items and len(got) < n:
            got.append(items.popleft())
            if self._putters and len(items) < self.capacity:
                putter, waiting = self._putters.popitem(last=False)
                items.append(waiting)
                self.kernel.wake(putter)
            elif self.can_put.watchers:
                self.can_put.changed()
        if len(got) < n:
            self._wait_for_items(worker, got, n)

    def _wait_for_room(self, worker: Worker, entry: Entry) -> None:
        self._putters[worker] = entry
        try:
            self.kernel.park(worker, self._put_text, f"{self.capacity} waiting, full")
        finally:
            unserved = self._putters.pop(worker, None)
        if unserved:
            self._accept(entry)  # raises: only an ended target wakes a putter that is still in line

    def _wait_for_items(self, worker: Worker, got: list[Entry], n: int) -> None:
        """Fill `got` up to n; what was taken goes back when this worker has to give up."""
        worker.inbox, worker.wanted = got, n
        try:
            if not self._sources.ended:
                self._getters.append(worker)
                self.kernel.park(worker, self._get_text, f"{len(got)} of {n}")
            if len(got) < n:
                raise Ended(f"get {self.message}: every {self.source} of {self.path} has ended, {len(got)} of {n} came")
        except BaseException:
            if worker in self._getters:
                self._getters.remove(worker)
            self._items.extendleft(reversed(got))
            raise
        finally:
            worker.inbox = None

    def _discard_stale(self, worker: Worker, got: list[Entry], max_lag: int) -> None:
        """Take what is too old out of `got`. It has crossed, so it is counted; nobody reads it, so its lag is not."""
        assert self._versions is not None
        oldest = self._versions.latest - max_lag
        for entry in [entry for entry in got if entry.version is not None and entry.version < oldest]:
            got.remove(entry)
            self.stale += 1
            self.ledger.saw_drop(self.message)
            (self._row if entry.sender is not worker else self._own_row()).add(entry.nbytes)

    def _count(self, worker: Worker, got: list[Entry]) -> None:
        """Enter what a worker has got into the ledger, with its lag; in one go what came from others."""
        latest = None if self._versions is None else self._versions.latest
        count = size = lag_count = lag_sum = lag_max = 0
        for entry in got:
            version = entry.version
            lag = None if latest is None or version is None else latest - version if latest > version else 0
            if entry.sender is worker:
                self._own_row().add(entry.nbytes, lag)
                continue
            count += 1
            size += entry.nbytes
            if lag is not None:
                lag_count += 1
                lag_sum += lag
                if lag > lag_max:
                    lag_max = lag
        self._row.add_sums(count, size, lag_count, lag_sum, lag_max)

    def _own_row(self) -> Row:
        """Of items that a worker gets from itself."""
        return self.ledger.row(self.path, self.source, self.target, self.message, "call")
