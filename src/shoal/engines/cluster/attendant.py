# SPDX-License-Identifier: Apache-2.0
"""Between a child and the main process, on the child's node: takes arrays off messages, and puts them on.

    child --slot, segment--> attendant --key--> main       the slot lies on the shelf under that key
    child <--loan, segment-- attendant <--key-- main       from the shelf: it lies here, or a copy of it does

The child speaks as it does to a shadow on its own machine.
"""

import contextlib
import threading
from queue import SimpleQueue
from typing import Any

from shoal.engines.cluster.shelf import Place, Shelf, bytes_of
from shoal.engines.faults import MessageLost
from shoal.engines.remote.parcel import Parcel
from shoal.processes.launch import Child
from shoal.processes.link import Hangup, Message
from shoal.processes.memory import Segment, Slots
from shoal.processes.status import Status

AT_ONCE = 256 * 1024
"""bytes up to which what is for the main process goes along with its message, instead of being fetched"""
EXIT_S = 20.0
"""seconds to learn how a child ended, which takes long only where nobody is given a core"""
Told = tuple[dict[str, Any], bytes]


class Attendant:
    """Of one child.

    Args:
      say: (header, data) to the main process.
      for_main: wires whose items are read in the main process.
    """

    def __init__(  # noqa: PLR0913 it stands between two
        self, number: int, child: Child, page: Status, shelf: Shelf, say: Any, for_main: set[str]
    ):
        self.number, self.child, self.page = number, child, page
        self._shelf, self._say, self._for_main = shelf, say, for_main
        self._segments: dict[int, Slots] = {}
        self._shown: set[int] = set()
        self._loans: dict[int, Parcel] = {}
        self._turn = threading.Lock()
        self._waiting: SimpleQueue[Told | None] = SimpleQueue()
        self._behind = 0
        """messages that wait for their arrays, or behind one that does"""
        self.reported: list[Any] = []
        """what the main process knows of the page"""
        for work, name in ((self._listen, "from"), (self._catch_up, "to")):
            threading.Thread(target=work, name=f"cluster {name} child {number}", daemon=True).start()

    def tell(self, header: dict[str, Any], data: bytes) -> None:
        """Pass a message of the main process on, at once or, where its arrays are elsewhere, once they are here."""
        with self._turn:
            if self._behind or not self._at_hand(header):
                self._behind += 1
                self._waiting.put((header, data))
                return
            self._hand_over(header, data)

    def report(self) -> list[Any] | None:
        """What the page says now, if that is new."""
        now = self._seen()
        if now == self.reported:
            return None
        self.reported = now
        return now

    def close(self) -> None:
        """End the child, and forget what it holds."""
        self._waiting.put(None)
        self.child.close()
        self._loans.clear()

    def _seen(self) -> list[Any]:
        page, env = self.page, self.page.env
        return [page.moves, page.busy, None if env is None else list(env), self.child.is_stopped()]

    def _at_hand(self, header: dict[str, Any]) -> bool:
        return "lies" not in header or self._shelf.here(place_of(header)) is not None

    def _catch_up(self) -> None:
        while (told := self._waiting.get()) is not None:
            header, data = told
            try:
                if "lies" in header:
                    self._shelf.copy(place_of(header), header["form"], header["size"])
                with self._turn:
                    self._hand_over(header, data)
            except MessageLost:
                self._say({"op": "said", "child": self.number, "said": {"op": "lost", "number": header["number"]}})
            except Exception as error:  # noqa: BLE001 the child's program is told by its end; the log says why
                self._say({"op": "note", "text": f"a message to child {self.number} failed: {error}"})
                self.child.kill()
            finally:
                with self._turn:
                    self._behind -= 1

    def _hand_over(self, header: dict[str, Any], data: bytes) -> None:
        descriptors = []
        if "lies" in header:
            parcel = self._shelf.here(place_of(header)) or self._shelf.copy(
                place_of(header), header["form"], header["size"]
            )
            slots = parcel.slots
            assert slots is not None
            number = header.pop("number")
            del header["lies"]
            self._loans[number] = parcel
            header["loan"] = [number, slots.number, parcel.slot]
            if slots.number not in self._shown:
                self._shown.add(slots.number)
                header["segment"] = [slots.segment.size, slots.count, slots.slot_size]
                descriptors.append(slots.segment.descriptor)
        with contextlib.suppress(Hangup, OSError):  # who listens to it says that it has ended
            self.child.link.send(header, data, descriptors)

    def _listen(self) -> None:
        with contextlib.suppress(Hangup, OSError):
            while True:
                header, data = self._taken_over(self.child.link.receive())
                self._say({"op": "said", "child": self.number, "said": header}, data)
        code = self.child.wait(EXIT_S)
        how = self.child.describe(code)
        page = self._seen()  # what it was about then says whose fault it was
        self._say({"op": "ended", "child": self.number, "code": code, "how": how, "page": page})

    def _taken_over(self, message: Message) -> tuple[dict[str, Any], bytes]:
        """The message's header and data; what lies in a slot is put on the shelf, or into the data."""
        header, data = message.header, message.data
        for number in header.get("returned", ()):
            self._loans.pop(number, None)
        if "segment" in header:
            size, count, slot_size = header.pop("segment")
            segment = Segment(message.descriptors[0], size)
            self._segments[header["slot"][0]] = Slots(segment, count, slot_size)
        if "slot" in header:
            number, slot, tag = header.pop("slot")
            slots = self._segments[number]
            parcel = Parcel.lying(header["form"], header["size"], header["weight"], slots, slot, tag)
            if header["size"] <= AT_ONCE and header.get("wire") in self._for_main:
                data = bytes(bytes_of(parcel))
            else:
                header["lies"] = self._shelf.put(parcel).key
        return header, data


def place_of(header: dict[str, Any]) -> Place:
    """Where the arrays of a message lie."""
    address, key, size = header["lies"]
    return Place(tuple(address), key, size)
