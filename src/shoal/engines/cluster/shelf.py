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
SILENCE_S = 10.0
"""seconds without a byte of what was asked for, after which a connection is taken for dead and made anew"""


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
      compress: see `Squeeze`.
    """

    def __init__(self, host: str, secret: bytes, compress: str = "auto"):
        self._secret, self.compress = secret, compress
        self._gone: set[tuple[str, int]] = set()
        self._keys = itertools.count(1)
        self._lying: dict[int, Parcel] = {}
        self._shown: WeakValueDictionary[int, Parcel] = WeakValueDictionary()
        self._copies: OrderedDict[Place, Parcel] = OrderedDict()
        self._held = 0
        """bytes of all copies: thousands may be kept, too many to add up with every new one"""
        self._coming: dict[Place, Future] = {}
        self._sources: dict[tuple[str, int], Source] = {}
        self._pool = Pool()
        self._closed = False
        self._turn = threading.Lock()
        self._listener = Listener(host, secret, self._serve, "cluster shelf")
        self.address = self._listener.address

    def put(self, parcel: Parcel) -> Place:
        """Let an item lie here until `drop`."""
        key = next(self._keys)
        self._lying[key] = parcel
        return Place(self.address, key, parcel.size)

    def show(self, parcel: Parcel) -> Place:
        """Let an item be read from here for as long as it is held here otherwise; its place is always the same."""
        with self._turn:
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
            found = self._copies.get(place)
            if found is not None:  # since we looked
                return found
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
                self._held += place.size
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
        """A node is gone: whoever waits for something that lies there is told, and whoever will ask for it."""
        with self._turn:
            self._gone.add(address)
            source = self._sources.get(address)
        if source is not None:
            source.close()

    def close(self) -> None:
        """Serve nobody any more."""
        self._listener.close()
        with self._turn:
            self._closed = True
            sources = list(self._sources.values())
        for source in sources:
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
                source = self._sources[address] = Source(address, self._secret, Squeeze(self.compress))
            gone = self._closed or address in self._gone
        if gone:
            source.close()
        return source

    def _make_room(self) -> None:
        while self._held > ROOM and len(self._copies) > 1:
            place, _ = self._copies.popitem(last=False)
            self._held -= place.size

    def _serve(self, stream: Stream) -> None:
        while True:
            self._answer(stream, stream.receive().header)

    def _answer(self, stream: Stream, wanted: dict[str, Any]) -> None:
        """Send an item, and hold it no longer."""
        parcel = self._lying.get(wanted["key"]) or self._shown.get(wanted["key"])
        plain = memoryview(b"") if parcel is None else bytes_of(parcel)
        packed = squeezed(plain) if wanted["squeezed"] else None
        stream.send({"lost": parcel is None, "squeezed": packed is not None}, plain if packed is None else packed)


class Asked:
    """An item that was asked for."""

    def __init__(self, place: Place, memory: np.ndarray):
        self.place, self.memory = place, memory
        self.future: Future = Future()
        self.squeezed = False
        self.since = monotonic()
        """when it was asked for over the present connection"""


class Source:
    """Another node's shelf, as seen from here: requests go out at once, answers come in their order."""

    def __init__(self, address: tuple[str, int], secret: bytes, squeeze: Squeeze):
        self._address, self._secret, self.squeeze = address, secret, squeeze
        self._asked: deque[Asked] = deque()
        self._turn = threading.Lock()
        self._stream: Stream | None = None
        self._closed = self._taking = False
        self.connections = 0
        threading.Thread(target=self._receive, name="cluster fetch", daemon=True).start()

    def ask(self, place: Place, memory: np.ndarray) -> Future:
        """Fetch an item into memory [size]; a future of that."""
        asked = Asked(place, memory)
        with self._turn:
            if self._closed:
                asked.future.set_exception(self._lost(place))
            else:
                self._asked.append(asked)
                self._send(asked)
        return asked.future

    def close(self) -> None:
        """Nothing will come any more."""
        with self._turn:
            self._closed = True
            first = [self._asked.popleft()] if self._taking else []  # its memory may still be written to
            failed, self._asked = list(self._asked), deque(first)
            if self._stream is not None:
                self._stream.cut()
        for asked in failed:
            asked.future.set_exception(self._lost(asked.place))

    def _receive(self) -> None:
        try:
            while not self._closed:
                try:
                    self._connect()
                    while True:
                        self._next()
                except Cut:
                    self._disconnect()
                if not self._closed:
                    sleep(AGAIN_S)
        finally:
            self._disconnect()
            self.close()

    def _connect(self) -> None:
        try:
            stream = dial(self._address, self._secret)
        except Refused:
            self.close()
            raise Cut("another run's") from None
        stream.expect_within(SILENCE_S)
        with self._turn:
            self._stream = stream
            self.connections += 1
            if self._closed:
                raise Cut("closed")
            for asked in self._asked:
                self._send(asked)

    def _disconnect(self) -> None:
        with self._turn:
            stream, self._stream, self._taking = self._stream, None, False
        if stream is not None:
            stream.close()

    def _next(self) -> None:
        stream = self._stream
        if stream is None:
            raise Cut("no connection")
        if not stream.ready(SILENCE_S):
            with self._turn:
                if self._asked and monotonic() - self._asked[0].since > SILENCE_S:
                    raise Cut("silent")
            return
        header, size = stream.receive_head()
        began = monotonic()
        with self._turn:
            if self._closed or not self._asked:
                raise Cut("an answer that nobody waits for")
            asked, self._taking = self._asked[0], True
        if header["lost"] or header["squeezed"]:
            data = bytearray(size)
            stream.receive_data(data)
            if not header["lost"]:
                unsqueezed(data, asked.memory)
        else:
            stream.receive_data(asked.memory)
        with self._turn:
            self._asked.popleft()
            self._taking = False
            if self._asked:
                self._asked[0].since = monotonic()
        if header["lost"]:
            asked.future.set_exception(self._lost(asked.place))
            return
        self.squeeze.saw(asked.place.size, size, monotonic() - began, asked=asked.squeezed)
        asked.future.set_result(asked.memory)

    def _send(self, asked: Asked) -> None:
        if self._stream is not None:
            asked.squeezed, asked.since = self.squeeze.wanted, monotonic()
            with contextlib.suppress(Cut):  # whoever receives from it sees to the next one
                self._stream.send({"key": asked.place.key, "squeezed": asked.squeezed})

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
