# SPDX-License-Identifier: Apache-2.0
"""What workers in virtual time share: the cores of their node, the interpreter of their process, devices and links.

    phase --> idle seconds, then pieces of work, each in a pool --> its node gives every pool a pace --> an end

A pool has a clock of its own, in seconds of undisturbed work: a piece ends when that clock has come to its mark,
whatever the pace was meanwhile. Only the pace has to be found anew when a piece begins or ends on a node, never the
marks.

    cores    all pieces go on beside one another, each wants some; where all want more than there are, all slow down
             alike, and where cores share caches or a clock, all slow down before
    python   one interpreter for the threads of a process: one piece after the other, on one core
    device   an accelerator: one piece after the other, on no core
    link     of a node to others: n pieces beside one another, each at 1/n, on no core
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a phase or a message costs when nothing else runs."""

    seconds: float
    """from its beginning to its end"""
    idle: float = 0.0
    """of these, seconds in which it waits for something that is nobody's, such as a sleep; they come first"""
    cores: float = 1.0
    """kept busy on average in the rest"""
    python: float = 0.0
    """share of the rest in which it holds its process's interpreter"""
    device: str | None = None
    """an accelerator that does the rest instead of cores"""
    handing: float = 0.0
    """seconds more where others want the interpreter, too: it changes hands, and who gets it has to wake up"""
    server: str | None = None
    """a process on the first node whose interpreter does the rest, for one after the other"""
    near: bool = False
    """that process is on the worker's own node instead"""


class Link(NamedTuple):
    """Between every node and the network."""

    latency_s: float
    bytes_per_s: float


class Site(NamedTuple):
    """Where a worker runs."""

    node: int = 0
    process: Any = 0
    """whose interpreter it shares with all others there; None for a process of its own"""


ON_CORES = ("cores", "python")
"""kinds of pools whose pieces take cores"""
ONE_BY_ONE = ("python", "device")
"""kinds of pools that take up one piece after the other. An interpreter changes hands in the middle only after 5 ms,
which is longer than most pieces; a device runs what it is given in order."""


class Pool:
    """Pieces of work that go on at one pace."""

    __slots__ = (
        "_others", "_row", "busy_s", "clock", "cores", "count", "first", "kind", "last", "on_cores", "one_by_one",
        "pace", "wanted",
    )  # fmt: skip

    def __init__(self, kind: str):
        self.kind = kind
        self.on_cores, self.one_by_one = kind in ON_CORES, kind in ONE_BY_ONE
        self.clock = 0.0
        """seconds of undisturbed work that it has done, or that each of its pieces has, since the beginning of time"""
        self.last = 0.0
        """the mark of the piece that came last"""
        self.pace = 1.0
        self.busy_s = 0.0
        """in which it had something to do"""
        self.cores = 0.0
        """that its pieces want, if they are many at once"""
        self.wanted = 0.0
        """cores, when its node last looked"""
        self.count = 0
        """pieces in it"""
        self.first = math.inf
        """the mark of the piece that ends next"""
        self._row: deque[Piece] = deque()
        """in order of their ends: each came with a mark behind all of those before it, as most do"""
        self._others: list[Piece] = []
        """a heap of those that came with an earlier mark than the last of the row"""

    def add(self, piece: "Piece") -> None:
        """Take up a piece, by its mark."""
        mark, row = piece[0], self._row
        if not row or mark >= row[-1][0]:
            row.append(piece)
        else:
            heapq.heappush(self._others, piece)
        if mark < self.first:
            self.first = mark
        self.count += 1

    def take(self) -> "Piece":
        """The piece that ends first; of several, the one that began first."""
        row, others = self._row, self._others
        self.count -= 1
        if not others:
            piece = row.popleft()
            self.first = row[0][0] if row else math.inf
            return piece
        piece = row.popleft() if row and row[0] < others[0] else heapq.heappop(others)
        self.first = min(line[0][0] if line else math.inf for line in (row, others))
        return piece


Piece = tuple[float, int, Any, float]
"""(mark of its end, order, whose, cores)"""


class Node:
    """The cores that some processes share."""

    __slots__ = ("_now", "_share", "_wanted", "busy_s", "cores", "crowding", "pools", "version")

    def __init__(self, cores: float, crowding: float = 1.0):
        self.cores, self.crowding = cores, crowding
        self.busy_s = 0.0
        """core seconds so far"""
        self.version = 0
        """of its next end: what was foreseen before is void"""
        self.pools: dict[tuple[str, Any], Pool] = {}
        self._now = 0.0
        self._wanted = 0.0
        """cores, by all that is under way"""
        self._share = 1.0
        """of what is wanted that there is"""

    def begin(  # noqa: PLR0913 - a piece of work and where it belongs
        self, kind: str, name: Any, order: int, whose: Any, seconds: float, cores: float, now: float
    ) -> None:
        """A piece of work joins a pool."""
        if now > self._now:
            self._go_on(now)
        pool = self.pools.get((kind, name))
        if pool is None:
            pool = self.pools[kind, name] = Pool(kind)
            pool.pace = self._share if pool.on_cores else 1.0
        if pool.on_cores and self.crowding != 1.0:
            seconds /= self.slowed(cores)  # what it takes on so many cores alone is how long it was seen to take
        begins = pool.last if pool.one_by_one and pool.last > pool.clock else pool.clock
        pool.last = mark = begins + seconds
        pool.add((mark, order, whose, cores))
        pool.cores += cores
        self._set_paces(pool)

    def end(self, now: float) -> Any:
        """The piece that is due leaves; returns whose it was."""
        pool = self._go_on(now)
        assert pool is not None
        _, _, whose, cores = pool.take()
        pool.cores = pool.cores - cores if pool.count else 0.0
        self._set_paces(pool)
        return whose

    def slowed(self, busy: float) -> float:
        """Times as long that a piece takes while so many cores are busy: from 1 at one of them, growing evenly to the
        node's crowding at all."""
        if self.crowding == 1.0 or busy <= 1.0:
            return 1.0
        return 1.0 + (self.crowding - 1.0) * min(1.0, (busy - 1.0) / max(1.0, self.cores - 1.0))

    def due(self) -> float:
        """When the next piece ends if nothing begins until then."""
        least = math.inf
        for pool in self.pools.values():
            if pool.count:
                left = (pool.first - pool.clock) / pool.pace
                if left < least:
                    least = left
        return self._now + (least if least > 0.0 else 0.0)

    def _go_on(self, now: float) -> Pool | None:
        """Let the time go by; returns the pool whose next piece is due first: the one made first, of several."""
        passed, self._now = now - self._now, now
        least, found = math.inf, None
        for pool in self.pools.values():
            if pool.count:
                pace = pool.pace
                pool.clock = clock = pool.clock + passed * pace
                pool.busy_s += passed
                left = (pool.first - clock) / pace
                if left < 0.0:
                    left = 0.0
                if left < least:
                    least, found = left, pool
        self.busy_s += passed * (self.cores if self.cores < self._wanted else self._wanted)
        return found

    def _set_paces(self, changed: Pool) -> None:
        """Find anew what depends on one pool, in which a piece began or ended."""
        if not changed.on_cores:
            if changed.kind == "link":
                changed.pace = 1.0 / max(1, changed.count)
            return
        wants = float(changed.count > 0) if changed.one_by_one else changed.cores
        self._wanted += wants - changed.wanted
        changed.wanted = wants
        share = self.cores / self._wanted if self._wanted > self.cores else 1.0
        if self.crowding != 1.0:
            share /= self.slowed(self._wanted)
        if share != self._share:
            self._share = share
            for pool in self.pools.values():
                if pool.on_cores:
                    pool.pace = share


class Machine:
    """Nodes, and who is where.

    Args:
      cores: of each node.
      place: (system path, role, index) -> its site.
      link: of each node; None where messages cross for nothing.
      spread: roles whose workers are on several nodes; all of another role are where its first one is.
      crowding: times as long that computing takes while all cores of a node do.

    Check: two pieces of one second on one core end together after two; on two cores after one.
    """

    def __init__(
        self,
        cores: Sequence[float],
        place: Callable[[str, str, int], Site] = lambda *_: Site(),
        link: Link | None = None,
        spread: Sequence[str] = ("actor",),
        crowding: float = 1.0,
    ):
        self.link, self._spread = link, frozenset(spread)
        self.nodes = [Node(count, crowding) for count in cores]
        self._only = self.nodes[0] if len(self.nodes) == 1 else None
        self._place = place
        self._ends: list[tuple[float, int, int, int]] = []
        """(when the next piece of a node ends, order, node, its version), of all versions, the next end first"""
        self._changed: dict[int, int] = {}
        """nodes whose next end is to be found anew, and in which order: only when somebody asks for it, because a
        piece often begins at the moment at which another ended"""
        self._order = 0
        self._due, self._first = math.inf, 0
        """when the next piece ends, and on which node, once it was found anew"""

    def site_of(self, worker: Any) -> Site:
        """Where a worker is, by who it is now."""
        site = worker.site
        if site is None:
            site = worker.site = self._place(worker.path, worker.role, worker.index)
        return site

    def busy(self) -> dict[tuple[int, str, Any], float]:
        """Seconds so far in which each pool (node, kind, name) had work; of cores, those of the whole node."""
        found = {}
        for number, node in enumerate(self.nodes):
            found.update({(number, *key): pool.busy_s for key, pool in node.pools.items()})
            found[number, "cores", None] = node.busy_s / node.cores
        return found

    def link_between(self, worker: Any, partner: str) -> int | None:
        """The node whose link a message between a worker and somebody of another role goes over; None for the same
        node. It is that of the side that is one for many: what many send to it or get from it comes together there."""
        own = self.site_of(worker).node
        if partner in self._spread:
            return own if len(self.nodes) > 1 else None
        home = self._place(worker.path, partner, 0).node
        return None if home == own else home

    def wanted(self, node: int, name: Any) -> bool:
        """Whether somebody holds an interpreter, or waits for it."""
        pool = self.nodes[node].pools.get(("python", name))
        return pool is not None and pool.count > 0

    def take_up(self, worker: Any, work: Work, piece: tuple[str, Any, float, float], now: float) -> None:
        """A worker begins one of the pieces of its work; `finish` gives back whose it was when it is done."""
        kind, name, seconds, cores = piece
        node = worker.site.node if work.server is None or work.near else 0
        if kind == "python" and work.handing > 0 and self.wanted(node, name):
            seconds += work.handing
        self._order = self._changed[node] = order = self._order + 1
        self.nodes[node].begin(kind, name, order, worker, seconds * worker.slow, cores, now)

    def cross(self, worker: Any, node: int, seconds: float, now: float) -> None:
        """A message of a worker goes over the link of a node, which alone would take so long."""
        self._order = self._changed[node] = order = self._order + 1
        self.nodes[node].begin("link", None, order, worker, seconds, 0.0, now)

    def due(self) -> float:
        """When the next piece ends; infinite where none runs."""
        if self._changed:
            if self._only is None:
                self._foresee()
            else:
                self._due = self._only.due()
                self._changed.clear()
        return self._due

    def finish(self) -> Any:
        """Whose piece ended when it was `due`, which was asked for just before."""
        self._order = self._changed[self._first] = self._order + 1
        return self.nodes[self._first].end(self._due)

    def _foresee(self) -> None:
        """Find the next end anew, over several nodes."""
        ends, nodes = self._ends, self.nodes
        for number, order in self._changed.items():
            node = nodes[number]
            node.version += 1
            end = (node.due(), order, number, node.version)
            if ends and ends[0][2] == number:  # void by now
                heapq.heapreplace(ends, end)
            else:
                heapq.heappush(ends, end)
        self._changed.clear()
        while ends[0][3] != nodes[ends[0][2]].version:
            heapq.heappop(ends)
        self._due, _, self._first, _ = ends[0]


def pieces_of(work: Work, site: Site) -> list[tuple[str, Any, float, float]]:
    """(kind, name, seconds, cores) of the pieces of a work after its idle seconds, one after the other."""
    seconds, idle, cores, python, device, _, server, _ = work
    busy = seconds - idle
    if python == 0.0 and device is None and server is None:  # most works are one piece
        return [("cores", None, busy, cores)] if busy > 0 else []
    if server is not None:
        return [("python", server, busy, 1.0)] if busy > 0 else []
    if device is not None:
        return [("device", device, busy, 0.0)] if busy > 0 else []
    found = []
    if (held := busy * python) > 0:
        kind = "cores" if site.process is None else "python"  # who has an interpreter alone waits for nobody there
        found.append((kind, site.process, held, 1.0))
    if (rest := busy * (1.0 - python)) > 0:
        found.append(("cores", None, rest, cores))
    return found
