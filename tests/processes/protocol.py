# SPDX-License-Identifier: Apache-2.0
"""A model of all who share slots, which takes every possible turn: the code of `SlotBook` itself, a word at a time.

    producer --claim, write, write--> channel --> first reader --> second reader --> main process: release
                   abandon, die, be taken for dead and go on         forward, die       release again, too late

A state is data, so that it can be compared and gone on from. An operation of the book under way is kept as the values
that it has read: to take its next step it is run again on those, does one more access, and stops.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from shoal.processes.memory import SlotBook

Item = tuple[int, int, int]
"""segment, slot, tag"""


class Broken(AssertionError):
    """The protocol allowed what it must not."""


class Limits(NamedTuple):
    """How large the model is."""

    slots: int = 2
    items: int = 3
    """that each life of the producer makes"""
    capacity: int = 1
    drop_oldest: bool = True
    """what the channel does when it is full; otherwise the producer waits"""
    abandons: int = 1
    deaths: int = 1
    """of the producer"""
    reader_deaths: int = 1
    repeats: int = 1
    """releases that come once more, at any later time"""
    new_segments: bool = True
    """whether a producer that is started anew gets memory of its own"""


class Segment(NamedTuple):
    """Words, what lies in the slots, and what only the model knows: whose they are."""

    claimed: tuple[int, ...]
    released: tuple[int, ...]
    cells: tuple[tuple[int, int], ...]
    held: tuple[int, ...]
    """tag of who has the slot, 0 when it is free"""


class Producer(NamedTuple):
    """One life."""

    segment: int
    left: int
    doing: str = "idle"
    log: tuple[int, ...] = ()
    slot: int = 0
    tag: int = 0
    heard: bool = True
    """False when it was taken for dead but goes on"""


class Reader(NamedTuple):
    """A consumer, with what it reads and how much it has read."""

    item: Item | None = None
    seen: tuple[int, ...] = ()


class State(NamedTuple):
    """Everything."""

    segments: tuple[Segment, ...]
    producers: tuple[Producer, ...]
    queue: tuple[Item, ...] = ()
    readers: tuple[Reader, Reader] = (Reader(), Reader())
    releasing: tuple[Item, tuple[int, ...]] | None = None
    to_release: tuple[Item, ...] = ()
    released: tuple[Item, ...] = ()
    abandons: int = 0
    deaths: int = 0
    reader_deaths: int = 0
    repeats: int = 0


class _Paused(Exception):
    pass


class _Access:
    """Words as an operation sees them that has done `log` and may do one thing more."""

    def __init__(self, segment: Segment, log: tuple[int, ...]):
        self.rows, self.log = [list(segment.claimed), list(segment.released)], list(log)
        self._past, self._at = len(log), 0

    def do(self, row: int, slot: int, value: int | None = None) -> int:
        self._at += 1
        if self._at > self._past + 1:
            raise _Paused
        if self._at > self._past:
            if value is not None:
                self.rows[row][slot] = int(value)
            self.log.append(self.rows[row][slot])
        return self.log[self._at - 1]


class _Row:
    """One kind of word of all slots."""

    def __init__(self, access: _Access, row: int):
        self._access, self._row = access, row

    def __len__(self) -> int:
        return len(self._access.rows[self._row])

    def __getitem__(self, slot: int) -> int:
        return self._access.do(self._row, slot)

    def __setitem__(self, slot: int, value: int) -> None:
        self._access.do(self._row, slot, value)


def put(items: tuple, at: int, item: Any) -> tuple:
    """A tuple with another item in one place."""
    return (*items[:at], item, *items[at + 1 :])


class Model:
    """The steps that are possible in a state. Raises Broken where one leads to what must not be."""

    def __init__(self, limits: Limits, book: type[SlotBook] = SlotBook):
        self._limits, self._book = limits, book

    def start(self) -> State:
        """Nothing has happened."""
        limits = self._limits
        return State(
            (self._new_segment(),),
            (Producer(0, limits.items),),
            abandons=limits.abandons,
            deaths=limits.deaths,
            reader_deaths=limits.reader_deaths,
            repeats=limits.repeats,
        )

    def steps(self, s: State) -> Iterator[State]:
        """All states that one step of anybody leads to."""
        for number, producer in enumerate(s.producers):
            yield from self._produce(s, number, producer)
        if s.deaths:
            yield from self._die(s, len(s.producers) - 1)
        yield from self._carry(s)
        for number, reader in enumerate(s.readers):
            yield from self._read(s, number, reader)

    def check_end(self, s: State) -> None:
        """Nobody can take a step: everything must be through, and every slot free."""
        under_way = s.queue or s.to_release or s.releasing or any(reader.item for reader in s.readers)
        if under_way or any(p.doing != "idle" or p.left for p in s.producers if p.heard):
            raise Broken(f"deadlock: {s}")
        segment = s.segments[s.producers[-1].segment]
        if segment.claimed != segment.released or any(segment.held):
            raise Broken(f"slot lost: {s}")

    def _new_segment(self) -> Segment:
        none = (0,) * self._limits.slots
        return Segment(none, none, ((0, 0),) * self._limits.slots, none)

    def _operate(self, s: State, number: int, log: tuple, name: str, *args: Any) -> tuple[State, tuple, bool, Any]:
        """One access of an operation of a segment's book: the state, its log, whether it has ended, what it gave."""
        segment = s.segments[number]
        access = _Access(segment, log)
        book = self._book.__new__(self._book)
        book._claimed, book._released = _Row(access, 0), _Row(access, 1)  # type: ignore[assignment]
        over, value = True, None
        try:
            value = getattr(book, name)(*args)
        except _Paused:
            over = False
        claimed, released = map(tuple, access.rows)
        changed = segment._replace(claimed=claimed, released=released)
        return s._replace(segments=put(s.segments, number, changed)), tuple(access.log), over, value

    def _produce(self, s: State, number: int, p: Producer) -> Iterator[State]:
        def go_on(state: State, **changes: Any) -> State:
            return state._replace(producers=put(state.producers, number, p._replace(**changes)))

        if p.doing == "claim" or (p.doing == "idle" and p.left):
            state, log, over, taken = self._operate(s, p.segment, p.log, "claim")
            if not over:
                yield go_on(state, doing="claim", log=log)
            elif taken is None:  # the pool makes another segment, which is as this one
                yield go_on(state, doing="idle", log=(), left=p.left - 1)
            else:
                yield go_on(self._hold(state, p.segment, *taken), doing="write", log=(), slot=taken[0], tag=taken[1])
        elif p.doing in ("write", "write on"):
            cells = s.segments[p.segment].cells
            written = (p.tag, cells[p.slot][1]) if p.doing == "write" else (p.tag, p.tag)
            segment = s.segments[p.segment]._replace(cells=put(cells, p.slot, written))
            after = "write on" if p.doing == "write" else "written"
            yield go_on(s._replace(segments=put(s.segments, p.segment, segment)), doing=after)
        elif p.doing == "written":
            yield from (go_on(a, doing="idle", left=p.left - 1) for a in self._announce(s, p))
            if s.abandons:
                yield go_on(s._replace(abandons=s.abandons - 1), doing="abandon")
        elif p.doing == "abandon":
            state, log, over, _ = self._operate(s, p.segment, p.log, "abandon", p.slot, p.tag)
            if over:
                yield go_on(self._let_go(state, (p.segment, p.slot, p.tag)), doing="idle", log=(), left=p.left - 1)
            else:
                yield go_on(state, log=log)

    def _announce(self, s: State, p: Producer) -> Iterator[State]:
        item = (p.segment, p.slot, p.tag)
        if not p.heard:  # nobody listens to it any more
            yield s
        elif len(s.queue) < self._limits.capacity:
            yield s._replace(queue=(*s.queue, item))
        elif self._limits.drop_oldest:
            yield s._replace(queue=(*s.queue[1:], item), to_release=(*s.to_release, s.queue[0]))

    def _die(self, s: State, number: int) -> Iterator[State]:
        """The newest producer is killed, or taken for dead and goes on; the next one starts."""
        old = s.producers[number]
        for lives_on in (False, True):
            ghost = old._replace(heard=False) if lives_on else Producer(old.segment, 0, heard=False)
            if self._limits.new_segments:
                segments, where = (*s.segments, self._new_segment()), len(s.segments)
            else:
                segments, where = s.segments, old.segment
            after = (*put(s.producers, number, ghost), Producer(where, self._limits.items))
            yield s._replace(segments=segments, producers=after, deaths=s.deaths - 1)

    def _carry(self, s: State) -> Iterator[State]:
        """What the main process does: hand items over, and release those that came back."""
        first, second = s.readers
        if s.queue and first.item is None:
            yield s._replace(queue=s.queue[1:], readers=(Reader(s.queue[0]), second))
        if s.repeats:
            for item in s.released:
                again = (*s.to_release, item)
                yield s._replace(to_release=again, repeats=s.repeats - 1)
        if s.releasing is None and not s.to_release:
            return
        item, log = s.releasing or (s.to_release[0], ())
        rest = s.to_release if s.releasing else s.to_release[1:]
        state, log, over, _ = self._operate(s, item[0], log, "release", *item[1:])
        state = state._replace(releasing=None if over else (item, log), to_release=rest)
        if over:
            state = self._let_go(state, item)
            if s.repeats and item not in s.released:
                state = state._replace(released=(*s.released, item))
        yield state

    def _read(self, s: State, number: int, reader: Reader) -> Iterator[State]:
        item = reader.item
        if item is None:
            return
        segment, slot, tag = item
        away = s._replace(readers=put(s.readers, number, Reader()))  # type: ignore[arg-type]
        if s.reader_deaths:
            yield away._replace(to_release=(*s.to_release, item), reader_deaths=s.reader_deaths - 1)
        if len(reader.seen) < 2:
            seen = (*reader.seen, s.segments[segment].cells[slot][len(reader.seen)])
            if seen[-1] != tag:
                raise Broken(f"a reader of {item} saw what was not announced: {s}")
            yield s._replace(readers=put(s.readers, number, Reader(item, seen)))  # type: ignore[arg-type]
            return
        yield away._replace(to_release=(*s.to_release, item))
        if number == 0 and s.readers[1].item is None:
            yield s._replace(readers=(Reader(), Reader(item)))

    def _hold(self, s: State, number: int, slot: int, tag: int) -> State:
        segment = s.segments[number]
        if segment.held[slot]:
            raise Broken(f"slot {slot} of segment {number} given out twice: {s}")
        return s._replace(segments=put(s.segments, number, segment._replace(held=put(segment.held, slot, tag))))

    def _let_go(self, s: State, item: Item) -> State:
        number, slot, tag = item
        segment = s.segments[number]
        if segment.held[slot] != tag:  # it came too late, and means nothing
            return s
        return s._replace(segments=put(s.segments, number, segment._replace(held=put(segment.held, slot, 0))))


class Explored(NamedTuple):
    """What a search has seen."""

    states: int
    interleavings: int
    """different orders of steps from the start to an end, all of which lead through these states"""


def explore(model: Model) -> Explored:
    """Go through every state that can be reached, and count the ways.

    Steps only ever use something up, so there is no way back to a state, and ways can be added up from the ends.
    """
    start = model.start()
    ways: dict[State, int] = {}
    stack = [(start, False)]
    while stack:
        state, expanded = stack.pop()
        if state in ways:
            continue
        following = list(model.steps(state))
        if not following:
            model.check_end(state)
            ways[state] = 1
        elif expanded:
            ways[state] = sum(ways[after] for after in following)
        else:
            stack.append((state, True))
            stack.extend((after, False) for after in following if after not in ways)
    return Explored(len(ways), ways[start])
