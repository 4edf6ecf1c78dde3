# SPDX-License-Identifier: Apache-2.0
"""A node's shelf: items that lie here for whoever reads them, and copies of items that lie on other nodes.

    writer's node: slot --key--> shelf ==TCP==> shelf --slot--> readers :reader's node

Only keys pass through the program's main process. An item crosses once for each node that reads it, and lies in shared
memory there, so all readers of a node share one copy. What was fetched is kept for a while, in `ROOM` bytes at most,
since the next reader may be about to ask; what lies here is kept until the main process says that nobody will.
"""

import contextlib
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic, sleep
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from shoal.engines.cluster.frames import Cut, Listener, Refused, Stream, dial
from shoal.engines.cluster.squeeze import Squeeze, squeezed, unsqueezed
from shoal.engines.faults import MessageLost
from shoal.engines.remote.parcel import Parcel
from shoal.processes.memory import Pool

ROOM = 256 * 2**20
"""bytes of copies that are kept though nobody reads them now"""
AGAIN_S = 0.1
"""seconds between tries to reach a node"""


class Place(NamedTuple):
    """Where an item lies."""

    address: tuple[str, int]
    """of the shelf"""
    key: int
    size: int
    """bytes of its arrays"""


class Shelf:
    """One for each node, and one for the main process.

    Args:
      host: address to listen on.
      gone: whether a shelf's address is that of a node that will not come back.
      compress: see `Squeeze`.
    """

    def __init__(self, host: str, secret: bytes, gone: Callable[[Any], bool] = lambda _: False, compress: str = "auto"):
        self._secret, self._gone = secret, gone
        self._keys = itertools.count(1)
        self._lying: dict[int, Parcel] = {}
        self._shown: WeakValueDictionary[int, Parcel] = WeakValueDictionary()
        self._copies: OrderedDict[Place, Parcel] = OrderedDict()
        self._coming: dict[Place, Future] = {}
        self._sources: dict[tuple[str, int], Source] = {}
        self._pool = Pool()
        self._turn = threading.Lock()
        self.squeeze = Squeeze(compress)
        self._listener = Listener(host, secret, self._serve, "cluster shelf")
        self.address = self._listener.address

    def put(self, parcel: Parcel) -> Place:
        """Let an item lie here until `drop`."""
        key = next(self._keys)
        self._lying[key] = parcel
        return Place(self.address, key, parcel.size)

    def show(self, parcel: Parcel) -> Place:
        """Let an item be read from here for as long as it is held here otherwise; its place is always the same."""
        if parcel.key is None:
            parcel.key = next(self._keys)
            self._shown[parcel.key] = parcel
        return Place(self.address, parcel.key, parcel.size)

    def drop(self, key: int) -> None:
        """Nobody will read it any more."""
        self._lying.pop(key, None)

    def here(self, place: Place) -> Parcel | None:
        """The item if it lies here, or a copy of it does."""
        if place.address == self.address:
            return self._lying.get(place.key)
        with self._turn:
            copy = self._copies.get(place)
            if copy is not None:
                self._copies.move_to_end(place)
            return copy

    def copy(self, place: Place, form: str, weight: int) -> Parcel:
        """The item, in shared memory of this node; fetched once however many ask. Raises MessageLost."""
        found = self.here(place)
        if found is not None:
            return found
        with self._turn:
            coming = self._coming.get(place)
            first = coming is None
            if coming is None:
                coming = self._coming[place] = Future()
        if not first:
            return coming.result()
        try:
            parcel = self._fetched(place, form, weight)
            with self._turn:
                self._copies[place] = parcel
                self._make_room()
        except BaseException as error:
            coming.set_exception(error)
            raise
        finally:
            with self._turn:
                self._coming.pop(place, None)
        coming.set_result(parcel)
        return parcel

    def ask(self, place: Place) -> Future:
        """Have an item's bytes fetched into this process's own memory: a future of uint8 [size]."""
        return self._source(place.address).ask(place, np.empty(place.size, np.uint8))

    def forget(self, address: tuple[str, int]) -> None:
        """A node is gone: whoever waits for something that lies there is told."""
        with self._turn:
            source = self._sources.pop(address, None)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Serve nobody any more."""
        self._listener.close()
        for source in list(self._sources.values()):
            source.close()

    def _fetched(self, place: Place, form: str, weight: int) -> Parcel:
        number, slot, tag = self._pool.claim(place.size)
        slots = self._pool.slots[number]
        parcel = Parcel.lying(form, place.size, weight, slots, slot, tag)
        memory = slots.segment.array((place.size,), np.uint8, slots.offset(slot))
        self._source(place.address).ask(place, memory).result()
        return parcel

    def _source(self, address: tuple[str, int]) -> "Source":
        with self._turn:
            source = self._sources.get(address)
            if source is None:
                source = self._sources[address] = Source(address, self._secret, self._gone, self.squeeze)
            return source

    def _make_room(self) -> None:
        held = sum(place.size for place in self._copies)
        while held > ROOM and len(self._copies) > 1:
            place, _ = self._copies.popitem(last=False)
            held -= place.size

    def _serve(self, stream: Stream) -> None:
        while True:
            wanted = stream.receive().header
            parcel = self._lying.get(wanted["key"]) or self._shown.get(wanted["key"])
            plain = memoryview(b"") if parcel is None else bytes_of(parcel)
            packed = squeezed(plain) if wanted["squeezed"] else None
            stream.send({"lost": parcel is None, "squeezed": packed is not None}, plain if packed is None else packed)


class Source:
    """Another node's shelf, as seen from here: requests go out at once, answers come in their order."""

    def __init__(self, address: tuple[str, int], secret: bytes, gone: Callable[[Any], bool], squeeze: Squeeze):
        self._address, self._secret, self._gone, self._squeeze = address, secret, gone, squeeze
        self._asked: deque[tuple[Place, np.ndarray, Future]] = deque()
        self._turn = threading.Lock()
        self._stream: Stream | None = None
        self._closed = False
        threading.Thread(target=self._receive, name="cluster fetch", daemon=True).start()

    def ask(self, place: Place, memory: np.ndarray) -> Future:
        """Fetch an item into memory [size]; a future of that."""
        future: Future = Future()
        with self._turn:
            if self._closed:
                future.set_exception(self._lost(place))
                return future
            self._asked.append((place, memory, future))
            self._send(place)
        return future

    def close(self) -> None:
        """Nothing will come any more."""
        with self._turn:
            self._closed = True
            asked, self._asked = list(self._asked), deque()
            stream = self._stream
        if stream is not None:
            stream.close()
        for place, _, future in asked:
            future.set_exception(self._lost(place))

    def _receive(self) -> None:
        while not self._closed:
            with contextlib.suppress(Cut):
                self._connect()
                while True:
                    self._next()
            with self._turn:
                self._stream = None
            if self._gone(self._address):
                self.close()
                return
            sleep(AGAIN_S)

    def _connect(self) -> None:
        try:
            stream = dial(self._address, self._secret)
        except Refused:
            self.close()
            raise Cut("another run's") from None
        with self._turn:
            self._stream = stream
            for place, _, _ in self._asked:
                self._send(place)

    def _next(self) -> None:
        stream = self._stream
        if stream is None:
            raise Cut("no connection")
        header, size = stream.receive_head()
        began = monotonic()
        with self._turn:
            if not self._asked:
                raise Cut("an answer that nobody asked for")
            place, memory, future = self._asked[0]
        if header["lost"] or header["squeezed"]:
            data = bytearray(size)
            stream.receive_data(data)
            if not header["lost"]:
                unsqueezed(data, memory)
        else:
            stream.receive_data(memory)
        with self._turn:
            if self._closed:
                raise Cut("closed")
            self._asked.popleft()
        if header["lost"]:
            future.set_exception(self._lost(place))
            return
        self._squeeze.saw(place.size, size, monotonic() - began)
        future.set_result(memory)

    def _send(self, place: Place) -> None:
        if self._stream is not None:
            with contextlib.suppress(Cut):  # whoever receives from it sees to the next one
                self._stream.send({"key": place.key, "squeezed": self._squeeze.wanted})

    def _lost(self, place: Place) -> MessageLost:
        return MessageLost(
            f"a message of {place.size:,} bytes lay on {self._address[0]}:{self._address[1]}, which is gone"
        )


def bytes_of(parcel: Parcel) -> memoryview:
    """The bytes of an item that lies in a slot."""
    slots = parcel.slots
    if slots is None:
        return memoryview(parcel.inline or b"")
    begin = slots.offset(parcel.slot)
    return memoryview(slots.segment.map)[begin : begin + parcel.size]
