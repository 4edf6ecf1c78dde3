# SPDX-License-Identifier: Apache-2.0
"""Shadows of children on other nodes, and items that lie there.

As on one machine, but what is said of an item is the key under which it lies on its node's shelf. So arrays go from
node to node, and come here only if they are for a worker of the main process.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from shoal.engines.cluster.fleet import Node
from shoal.engines.cluster.shelf import Place, Shelf
from shoal.engines.faults import MessageLost, WouldWait
from shoal.engines.remote.parcel import Parcel
from shoal.engines.remote.shadow import Header, Shadow
from shoal.engines.worker import current
from shoal.processes import codec
from shoal.processes.link import Hangup, Message

AT_ONCE = ("put", "pull", "publish", "reply", "attribute", "wait", "pushed", "reached")
"""operations that are done, or refused, without waiting, and leave nothing behind where they would have to"""
TAKEN = ("returned", "notes", "spent", "segment")
"""fields of a message that count once"""
Recover = Callable[[], list[Any] | None]
"""what to do when an item is lost on its way to a child; gives what takes its place"""


class FarParcel(Parcel):
    """An item on another node's shelf; dropped there when nobody refers to it here any more."""

    __slots__ = ("_coming", "_node", "_shelf", "place")

    def __init__(self, form: str, weight: int, place: Place, node: Node, shelf: Shelf):  # noqa: PLR0913
        super().__init__(form, place.size, weight)
        self.place, self._node, self._shelf = place, node, shelf
        self._coming: Future | None = None

    def prefetch(self) -> None:
        """Have its arrays brought here: a worker of the main process will want them."""
        if self._coming is None:
            self._coming = self._shelf.ask(self.place)

    def open(self, handle: Any, *, writable: bool, calls: bool = False) -> Any:
        """The value. Raises MessageLost."""
        self.prefetch()
        assert self._coming is not None
        arrays = codec.read(self.form, self._coming.result())
        if not writable:
            for array in arrays:
                array.flags.writeable = False
        return codec.unpack(self.form, arrays, handle, calls=calls)

    def __del__(self):
        self._node.drop(self.place.key)


class FarShadow(Shadow):
    """Of a child on another node."""

    def __init__(self, kernel: Any, worker: Any, child: Any, shelf: Shelf):
        super().__init__(kernel, worker, child, child.page)
        self._node, self._shelf = child.node, shelf
        self._recoveries: dict[int, Recover] = {}
        """by the numbers of what was lent"""
        self._recover: Recover | None = None
        """of what is being lent"""
        self.patient = True
        """whether its worker may wait: not on the thread that hears all of a node's children"""
        if not kernel.fixed:
            child.link.at_once = self._at_once

    def _at_once(self, message: Message) -> Message | None:
        """Do what a message asks for on the thread that has received it; the message again if that would mean to wait.

        The shadow's own thread waits for messages meanwhile.
        """
        header = message.header
        fetches = header["op"] == "reply" and "lies" in header
        if header["op"] not in AT_ONCE or fetches or self._worker.shadow is not self:
            return message
        try:
            self._take_over(message)
        except Exception as error:  # noqa: BLE001 of who takes notes: the worker is told, the others are heard on
            self._failed = self._failed or error
        item = self._parcel(message) if "form" in header else None
        again = message._replace(header={**{name: header[name] for name in header if name not in TAKEN}, "item": item})
        token = current.set(self._worker)
        self.patient = False
        try:
            self._do(again)
        except WouldWait:
            return again
        except Hangup:
            return None
        finally:
            self.patient = True
            current.reset(token)
        return None

    def _take_segment(self, message: Message) -> None:
        for number in message.header.get("returned", ()):
            self._recoveries.pop(number, None)

    def _parcel(self, message: Message) -> Parcel:
        header = message.header
        if "item" in header:  # it was opened before
            return header["item"]
        if "lies" not in header:
            return Parcel.inside(header["form"], message.data, header["weight"])
        place = Place(self._node.shelf, header["lies"], header["size"])
        return FarParcel(header["form"], header["weight"], place, self._node, self._shelf)

    def _lend(self, number: int, parcel: Parcel, header: Header) -> None:
        place = parcel.place if isinstance(parcel, FarParcel) else self._shelf.show(parcel)
        header["lies"], header["number"] = [list(place.address), place.key, place.size], number
        if self._recover is not None:
            self._recoveries[number] = self._recover
        self._link.send(header)

    def _put(self, header: Header, item: Parcel) -> None:
        if self._wire(header).is_for_main:
            self._hasten(header["wire"], item)
        super()._put(header, item)

    def _hasten(self, wire: str, item: Parcel) -> None:
        """What the main process will read comes here at once: the larger items are asked for, and of the smaller ones
        the node is told, so that the next come along with their messages."""
        if isinstance(item, FarParcel):
            item.prefetch()
            if wire not in self._node.told_wires:
                self._node.told_wires.add(wire)
                self._node.say({"op": "wire", "wire": wire})

    def _get(self, header: Header, item: Parcel) -> None:
        self._recover = self._wire(header).lost
        try:
            super()._get(header, item)
        finally:
            self._recover = None

    def _take(self, header: Header, item: Parcel) -> None:
        service = self._wire(header)
        requests = service.take()
        self._give([[r.index, r.epoch, r.ticket] for r in requests])
        try:
            for request in requests:
                self._recover = partial(service.lost, request.ticket)
                self._give(request.item)
        finally:
            self._recover = None

    def _vector(self, header: Header, item: Parcel) -> None:
        self._link.send(self._wire(header).facts(self._worker))

    def _lost(self, header: Header, item: Parcel) -> None:
        """The node could not bring what the child was given: it lay on one that is gone."""
        number = header["number"]
        parcel, recover = self._loans.pop(number, None), self._recoveries.pop(number, None)
        self._recover = recover
        try:
            instead = None if recover is None else recover()
            if instead is None:
                size = 0 if parcel is None else parcel.size
                raise MessageLost(f"a message of {size:,} bytes lay on a node that is gone")
            for one in instead:
                self._give(one)
        finally:
            self._recover = None
