# SPDX-License-Identifier: Apache-2.0
"""The main process's side of a child: does the primitives that the child asks for, as the child's worker.

It runs where the worker's function would run, on the worker's thread or greenlet, for one life of the child. So wires,
deadlocks, failures and restarts are what they are on threads; only the work between primitives happens elsewhere.
"""

import itertools
from typing import Any

from shoal.engines.faults import WouldWait
from shoal.engines.remote.errors import decode, encode
from shoal.engines.remote.parcel import Parcel
from shoal.engines.system import System, system
from shoal.engines.wires.select import select
from shoal.engines.wires.service import Request
from shoal.engines.worker import Worker
from shoal.processes.launch import Child
from shoal.processes.link import Hangup, Message
from shoal.processes.memory import Segment, Slots
from shoal.processes.status import Status

QUIET = ("put", "reply", "reached", "pushed")
"""what the child does not wait for; that it was done is said all the same"""
Header = dict[str, Any]


class Shadow:
    """Of one child. `serve` returns when the child's function does and raises what it raised."""

    def __init__(self, kernel: Any, worker: Worker, child: Child, page: Status):
        self._kernel, self._worker, self.child, self.page = kernel, worker, child, page
        self._link = child.link
        self._segments: dict[int, Slots] = {}
        self._shown: set[int] = set()
        self._loans: dict[int, Parcel] = {}
        self._numbers = itertools.count()
        self._systems: list[tuple[Any, System]] = []
        self._failed: BaseException | None = None
        self.handed_over = 0
        """messages that moved data on: a sign of progress"""
        self.listening = False
        """the child has no question open: it works, or should"""
        self.hung = False
        """it was killed because it did not move any more"""
        self.stopped = False
        """it was killed because somebody had stopped it"""

    def serve(self, call: Parcel) -> None:
        """Have the child make a call and do what it asks for until it has ended.

        Raises Hangup when it ends without a word.
        """
        try:
            self._give(call)
            while True:
                self.listening = True
                message = self._link.receive()
                self.listening = False
                self._take_over(message)
                if message.header["op"] == "ended":
                    self._spend(message)
                    self._finish(message.header)
                    return
                self._do(message)
        except BaseException as error:
            self._leave_all(error)
            raise

    def _do(self, message: Message) -> None:
        op = message.header["op"]
        quiet = op in QUIET
        item = self._parcel(message) if "form" in message.header else None  # also where nobody takes it: it has a slot
        try:
            self._spend(message)
            if self._failed is not None:
                raise self._failed
            getattr(self, f"_{op}")(message.header, item)
        except (Hangup, WouldWait):
            raise
        except BaseException as error:  # noqa: BLE001 it is the child's: its program decides what follows
            if quiet:
                self._failed = self._failed or error
            else:
                self._failed = None
                self._link.send({"error": encode(error)})
        if quiet:
            self._link.send({"well": self._failed is None})

    def _finish(self, header: dict[str, Any]) -> None:
        if header["error"] is not None:
            raise decode(header["error"])
        if self._failed is not None:
            raise self._failed

    def _leave_all(self, error: BaseException) -> None:
        """The child is gone: leave the systems that it had opened, innermost first."""
        while self._systems:
            context, _ = self._systems.pop()
            try:
                context.__exit__(type(error), error, error.__traceback__)
            except BaseException:  # noqa: BLE001 what ended the child is what counts
                continue

    def _take_over(self, message: Message) -> None:
        """What came along with a message: slots given back, notes, time spent, a new segment."""
        header, worker = message.header, self._worker
        for number in header.get("returned", ()):
            self._loans.pop(number, None)
        for metrics in header.get("notes", ()):
            worker.engine.take_note(metrics)
        for name, seconds in header.get("spent", {}).items():
            worker.phases[name] = worker.phases.get(name, 0.0) + seconds
        self._take_segment(message)

    def _take_segment(self, message: Message) -> None:
        """A segment that the child has begun to put arrays into."""
        header = message.header
        if "segment" in header:
            size, count, slot_size = header["segment"]
            number = header["slot"][0]
            self._segments[number] = Slots(Segment(message.descriptors[0], size), count, slot_size)

    def _spend(self, message: Message) -> None:
        """In fixed order, let the virtual time of what the child did pass, phase by phase."""
        for name in message.header.get("did", ()):
            self._kernel.spend(self._worker, name)

    def _parcel(self, message: Message) -> Parcel:
        """The item of a message."""
        header = message.header
        if "slot" in header:
            number, slot, tag = header["slot"]
            slots = self._segments[number]
            return Parcel.lying(header["form"], header["size"], header["weight"], slots, slot, tag)
        return Parcel.inside(header["form"], message.data, header["weight"])

    def _wire(self, header: Header) -> Any:
        return self._kernel.wire(header["wire"])

    def _give(self, item: Any = None, *, fixed: bool = False) -> None:
        """Answer with a value or a parcel."""
        if item is None:
            self._link.send({"form": None})
            return
        parcel = item if isinstance(item, Parcel) else Parcel.of(item, self._kernel.pool, self._kernel.key)
        header: dict[str, Any] = {"form": parcel.form, "size": parcel.size, "fixed": fixed}
        if parcel.inline is not None:
            self._link.send(header, parcel.inline or b"")
            return
        number = next(self._numbers)
        self._loans[number] = parcel  # as often as it is lent
        self._lend(number, parcel, header)

    def _lend(self, number: int, parcel: Parcel, header: Header) -> None:
        """Answer with a parcel that lies in shared memory."""
        assert parcel.slots is not None
        segment = parcel.slots.number
        header["loan"] = [number, segment, parcel.slot]
        descriptors = []
        if segment not in self._shown:
            self._shown.add(segment)
            header["segment"] = [parcel.slots.segment.size, parcel.slots.count, parcel.slots.slot_size]
            descriptors.append(parcel.slots.segment.descriptor)
        self._link.send(header, descriptors=descriptors)

    # primitives, by the names under which children ask for them

    def _wait(self, header: Header, item: Parcel) -> None:
        self._give()

    def _put(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        self._wire(header).put(item, header["version"])

    def _get(self, header: Header, item: Parcel) -> None:
        items = self._wire(header).get(header["n"], header["by_sender"])
        self._give(len(items))
        for item in items:
            self._give(item)

    def _publish(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        self._give(self._wire(header).publish(item))

    def _pull(self, header: Header, item: Parcel) -> None:
        limits = {name: header[name] for name in ("at_least", "behind") if name in header}
        value, version = self._wire(header).pull(**limits)
        self._give(version)
        self._give(value, fixed="behind" in limits)

    def _call(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        self._give(self._wire(header).call(item))

    def _send(self, header: Header, item: Parcel) -> None:
        self._give(self._wire(header).send(item))

    def _result(self, header: Header, item: Parcel) -> None:
        self._give(self._wire(header).result(header["ticket"]))

    def _reached_sums(self, header: Header, item: Parcel) -> None:
        self._wire(header).reached(header["made"])
        self._give()

    def _take(self, header: Header, item: Parcel) -> None:
        requests = self._wire(header).take()
        self._give([[r.index, r.epoch, r.ticket] for r in requests])
        for request in requests:
            self._give(request.item)

    def _reply(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        requests = [Request(None, *head) for head in header["tickets"]]
        self._wire(header).reply(requests, item.open(self._kernel.wire, writable=True))

    def _reach(self, header: Header, item: Parcel) -> None:
        self._give(self._wire(header).reach(header["at_least"]))

    def _reached(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        self._wire(header).reached(header["version"])

    def _pushed(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        self._wire(header).heard(header["version"])

    def _push(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        grad = item.open(self._kernel.wire, writable=True)
        self._give(self._wire(header).push(grad, header["version"], header["rate"], header["samples"]))

    def _exchange(self, header: Header, item: Parcel) -> None:
        self.handed_over += 1
        grad = item.open(self._kernel.wire, writable=True)
        params, version = self._wire(header).exchange(grad, header["version"], header["rate"], header["samples"])
        self._give(version)
        self._give(params)

    def _moments(self, header: Header, item: Parcel) -> None:
        self._give(self._wire(header).moments())

    def _vector(self, header: Header, item: Parcel) -> None:
        vector = self._wire(header)
        facts = {**vector.facts(self._worker), "sizes": [vector.segment.size]}
        self._link.send(facts, descriptors=[vector.segment.descriptor])
        self._give(Parcel.of(vector.numbers.rule, self._kernel.pool, self._kernel.key))

    def _attribute(self, header: Header, item: Parcel) -> None:
        self._give(getattr(self._wire(header), header["name"]))

    def _select(self, header: Header, item: Parcel) -> None:
        conditions = [getattr(self._kernel.wire(key), name) for key, name in header["conditions"]]
        self._give(select(*conditions))

    def _open(self, header: Header, item: Parcel) -> None:
        context = system(header["name"], header["role"])
        scope = context.__enter__()
        self._systems.append((context, scope))
        self._give(scope.path)

    def _leave(self, header: Header, item: Parcel) -> None:
        context, _ = self._systems.pop()
        found = header["error"]
        if found is None:
            context.__exit__(None, None, None)
        else:
            error = decode(found)
            if not context.__exit__(type(error), error, None):
                raise error
        self._give()

    def _make(self, header: Header, item: Parcel) -> None:
        args, settings = item.open(self._kernel.wire, writable=True, calls=True)
        self._give(getattr(self._systems[-1][1], header["kind"])(*args, **settings))

    def _spawn(self, header: Header, item: Parcel) -> None:
        policy = {name: header[name] for name in ("on_failure", "budget")}
        self._systems[-1][1].spawn(header["role"], header["count"], item, **policy)
        self._give()
