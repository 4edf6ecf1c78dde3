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
        self.pieces: list[tuple[float, int, Any, float]] = []
        """(mark of its end, order, whose, cores), the next end first"""


class Node:
    """The cores that some processes share."""

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

    def begin(self, kind: str, name: Any, piece: tuple[int, Any, float, float], now: float) -> None:
        """A piece (order, whose, seconds, cores) joins a pool."""
        if now > self._now:
            self._go_on(now)
        pool = self.pools.get((kind, name))
        if pool is None:
            pool = self.pools[kind, name] = Pool(kind)
            pool.pace = self._share if pool.on_cores else 1.0
        order, whose, seconds, cores = piece
        if pool.on_cores:
            seconds /= self.slowed(cores)  # what it takes on so many cores alone is how long it was seen to take
        begins = max(pool.clock, pool.last) if pool.one_by_one else pool.clock
        pool.last = begins + seconds
        heapq.heappush(pool.pieces, (pool.last, order, whose, cores))
        pool.cores += cores
        self._set_paces(pool)

    def end(self, now: float) -> Any:
        """The piece that is due leaves; returns whose it was."""
        pool = self._go_on(now)
        assert pool is not None
        _, _, whose, cores = heapq.heappop(pool.pieces)
        pool.cores = pool.cores - cores if pool.pieces else 0.0
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
            if pool.pieces:
                left = (pool.pieces[0][0] - pool.clock) / pool.pace
                if left < least:
                    least = left
        return self._now + (least if least > 0.0 else 0.0)

    def _go_on(self, now: float) -> Pool | None:
        """Let the time go by; returns the pool whose next piece is due first: the one made first, of several."""
        passed, self._now = now - self._now, now
        least, found = math.inf, None
        for pool in self.pools.values():
            if pool.pieces:
                pool.clock += passed * pool.pace
                pool.busy_s += passed
                left = (pool.pieces[0][0] - pool.clock) / pool.pace
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
                changed.pace = 1.0 / max(1, len(changed.pieces))
            return
        wants = float(bool(changed.pieces)) if changed.one_by_one else changed.cores
        self._wanted += wants - changed.wanted
        changed.wanted = wants
        share = self.cores / self._wanted if self._wanted > self.cores else 1.0
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
        self._place = place
        self._sites: dict[tuple[str, str, int], Site] = {}
        self._ends: list[tuple[float, int, int, int]] = []
        """(when the next piece of a node ends, order, node, its version), of all versions, the next end first"""
        self._changed: dict[int, int] = {}
        """nodes whose next end is to be found anew, and in which order: only when somebody asks for it, because a
        piece often begins at the moment at which another ended"""
        self._order = 0

    def site_of(self, worker: Any) -> Site:
        """Where a worker is, by who it is now."""
        who = worker.path, worker.role, worker.index
        site = self._sites.get(who)
        if site is None:
            site = self._sites[who] = self._place(*who)
        return site

    def settle(self, worker: Any, site: Site) -> None:
        """Say where one is that is nobody's role."""
        self._sites[worker.path, worker.role, worker.index] = site

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
        return pool is not None and bool(pool.pieces)

    def begin(  # noqa: PLR0913 - a piece of work and where it belongs
        self, whose: Any, node: int, kind: str, name: Any, seconds: float, cores: float, now: float
    ) -> None:
        """A piece of work of `seconds` begins; `finish` gives back `whose` when it is done."""
        self._order = self._changed[node] = self._order + 1
        self.nodes[node].begin(kind, name, (self._order, whose, seconds, cores), now)

    @property
    def due(self) -> float:
        """When the next piece ends; infinite where none runs."""
        if self._changed:
            self._foresee()
        ends, nodes = self._ends, self.nodes
        while ends and ends[0][3] != nodes[ends[0][2]].version:
            heapq.heappop(ends)
        return ends[0][0] if ends else math.inf

    def finish(self) -> Any:
        """Whose piece ended at `due`, which was asked for just before."""
        due, _, node, _ = self._ends[0]
        self._order = self._changed[node] = self._order + 1
        return self.nodes[node].end(due)

    def _foresee(self) -> None:
        ends = self._ends
        for number, order in self._changed.items():
            node = self.nodes[number]
            node.version += 1
            end = (node.due(), order, number, node.version)
            if ends and ends[0][2] == number:  # void by now
                heapq.heapreplace(ends, end)
            else:
                heapq.heappush(ends, end)
        self._changed.clear()


def pieces_of(work: Work, site: Site) -> list[tuple[str, Any, float, float]]:
    """(kind, name, seconds, cores) of the pieces of a work after its idle seconds, one after the other."""
    seconds, idle, cores, python, device, _, server, _ = work
    busy = seconds - idle
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
