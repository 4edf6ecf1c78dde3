# SPDX-License-Identifier: Apache-2.0
"""The child's side of its link: asks the shadow to do primitives, and moves arrays through shared memory.

With every message goes what has gathered since the last one: seconds by phase, the order of phases in fixed order,
notes, and which borrowed slots are free again.
"""

from time import perf_counter
from typing import Any

import numpy as np

from shoal.engines.payload import nbytes
from shoal.engines.remote.errors import decode
from shoal.engines.remote.handles import NOTHING, Handle, handle_of
from shoal.engines.remote.parcel import INLINE, hold, in_line
from shoal.processes import codec
from shoal.processes.link import Link, Message
from shoal.processes.memory import Pool, Segment, Slots

QUIET_S = 0.005
"""seconds for which a child that needs nothing keeps to itself what gathers for its shadow"""


class Loan:
    """A slot of somebody else's, read here; told to the shadow when the last array over it is gone."""

    def __init__(self, number: int, returned: list[int]):
        self._number, self._returned = number, returned

    def __del__(self):
        self._returned.append(self._number)


class Desk:
    """One for each child.

    Args:
      secret: with it, shared vectors lie on nodes of a cluster.
    """

    def __init__(self, link: Link, *, fixed: bool, secret: bytes | None = None):
        self._link, self.fixed, self.secret = link, fixed, secret
        self.vectors = "asked" if fixed else "attached" if secret is None else "spread"
        """how to get at shared vectors; see `remote.vector`"""
        self._pool = Pool()
        self._announced: set[int] = set()
        self._lent: dict[int, Slots] = {}
        self._returned: list[int] = []
        self._handles: dict[str, Handle] = {}
        self._notes: list[dict[str, Any]] = []
        self._sequence: list[str] = []
        self._sent: dict[str, float] = {}
        self._told = False
        self._last_sent = 0.0
        self.phases: dict[str, float] = {}

    def note(self, metrics: dict[str, Any]) -> None:
        """Metrics for whoever watches the engine."""
        self._notes.append(metrics)

    def did(self, name: str, began: float) -> None:
        """A phase that began then has ended now."""
        self.phases[name] = self.phases.get(name, 0.0) + perf_counter() - began
        if self.fixed:
            self._sequence.append(name)

    def tell(self, op: str, item: Any = NOTHING, **fields: Any) -> None:
        """Have the shadow do something, once it has done what it was told before: so a worker is never more than one
        item ahead of a wire that is full. A fault of it comes with the answer to the next question.

        The shadow says when it has done it, so a child that comes back later, as most do, finds that there.
        """
        if not self._settled():
            self.ask("wait")
        self._send(op, item, fields)
        self._told = True

    def tell_now_and_then(self, op: str, **fields: Any) -> None:
        """As `tell`, but only if nothing was sent for a while: what has gathered then gets to the shadow."""
        if perf_counter() - self._last_sent > QUIET_S:
            self.tell(op, **fields)

    def ask(self, op: str, item: Any = NOTHING, **fields: Any) -> Any:
        """Have the shadow do something and wait for what it gives. Raises what that raised."""
        self._send(op, item, fields)
        self._settled()
        return self.answer()

    def ask_for_message(self, op: str, **fields: Any) -> Message:
        """As `ask`, for what is no value."""
        self._send(op, NOTHING, fields)
        self._settled()
        return self._receive()

    def end(self, error: dict[str, Any] | None) -> None:
        """The last message; what was said before is read first, because a socket that is closed with something unread
        in it spoils what it has sent."""
        self._settled()
        self._send("ended", NOTHING, {"error": error})

    def answer(self) -> Any:
        """The next message as a value."""
        return self._value(self._receive())

    def handle(self, key: str) -> Handle:
        """The handle of a wire, always the same one."""
        if key not in self._handles:
            self._handles[key] = handle_of(key, self)
        return self._handles[key]

    def attach(self, message: Message) -> list[Segment]:
        """Segments that came with a message."""
        return [Segment(fd, size) for fd, size in zip(message.descriptors, message.header["sizes"], strict=True)]

    def _settled(self) -> bool:
        """Whether what the shadow was told went well, once it has said so; a fault is kept for the next question."""
        told, self._told = self._told, False
        return not told or self._link.receive().header["well"]

    def _receive(self) -> Message:
        message = self._link.receive()
        if "error" in message.header:
            raise decode(message.header["error"])
        return message

    def _send(self, op: str, item: Any, fields: dict[str, Any]) -> None:
        header: dict[str, Any] = {"op": op, **fields}
        data, descriptors = b"", []
        if item is not NOTHING:
            data, descriptors = self._place(item, header)
        self._gather(header)
        self._last_sent = perf_counter()
        try:
            self._link.send(header, data, descriptors)
        except BaseException:
            if "slot" in header:
                number, slot, tag = header["slot"]
                self._pool.slots[number].book.abandon(slot, tag)
            raise
        if descriptors:
            self._announced.add(header["slot"][0])

    def _place(self, item: Any, header: dict[str, Any]) -> tuple[bytes, list[int]]:
        """Put an item where the shadow finds it, and say in the header where."""
        packed = codec.pack(item, key_of)
        size = packed.nbytes
        header["form"], header["size"], header["weight"] = packed.form, size, nbytes(item)
        if size <= INLINE:
            return in_line(packed), []
        number, slot, tag = self._pool.claim(size)
        slots = self._pool.slots[number]
        codec.write(packed, slots.segment.array((size,), np.uint8, slots.offset(slot)))
        header["slot"] = [number, slot, tag]
        if number in self._announced:
            return b"", []
        header["segment"] = [slots.segment.size, slots.count, slots.slot_size]
        return b"", [slots.segment.descriptor]

    def _gather(self, header: dict[str, Any]) -> None:
        spent = {n: s - self._sent.get(n, 0.0) for n, s in self.phases.items() if s != self._sent.get(n)}
        if spent:
            header["spent"] = spent
            self._sent = dict(self.phases)
        for name, gathered in (("did", self._sequence), ("notes", self._notes), ("returned", self._returned)):
            if gathered:
                header[name] = gathered[:]
                del gathered[: len(header[name])]

    def _value(self, message: Message) -> Any:
        header = message.header
        form = header.get("form")
        if form is None:
            return None
        if "loan" in header:
            number, segment, slot = header["loan"]
            if message.descriptors:
                size, count, slot_size = header["segment"]
                shared = Segment(message.descriptors[0], size)
                self._lent[segment] = Slots(shared, count, slot_size)
                shared.close()
            slots = self._lent[segment]
            memory = hold(Loan(number, self._returned), slots.segment.map, header["size"], slots.offset(slot))
        else:
            memory = np.frombuffer(bytearray(message.data), np.uint8)
        arrays = codec.read(form, memory)
        if header.get("fixed"):
            for array in arrays:
                array.flags.writeable = False
        return codec.unpack(form, arrays, self.handle, calls=True)


def key_of(value: Any) -> str | None:
    """The key of a handle."""
    return value.key if isinstance(value, Handle) else None
