# SPDX-License-Identifier: Apache-2.0
"""What wires and systems need of a kernel, and what all kernels share.

A kernel owns one lock. Wires change their state and call `park` and `wake` with it held; it is a real lock on every
kernel, because an uncontended one costs less than a Python object that pretends. Waking is for one named worker, in
the order the wire chooses: there is no waking of everybody.

Kernels whose workers are processes run a shadow of each worker here: it launches the child in `call` and executes the
primitives that the child asks for. What goes over a wire is then wrapped when it is handed in, and unwrapped for who
gets it here.
"""

import threading
from collections.abc import Callable, Iterable
from time import perf_counter, sleep
from typing import Any

import numpy as np

from shoal.engines.faults import Deadlock
from shoal.engines.wires.locks import ChunkLocks, NoLocks
from shoal.engines.wires.vector import Vector
from shoal.engines.worker import Worker
from shoal.processes.ports import LOOPBACK


class Kernel:
    """Abstract: `via`, `clock`, `time`, `run`, `start`, `join`, `run_phase`, `_suspend`, `_resume`, `set_deadline`."""

    via = "call"
    """the ledger's word for how a message gets from one worker to another"""
    charges = False
    """whether messages have a cost in virtual time"""
    wraps = False
    """whether wires hold items in another form than workers do"""
    host = LOOPBACK
    """address at which workers on other machines reach those of this process"""

    opens: Any = None
    """(body, name, role) -> context of a system, where systems live in another process"""
    selects: Any = None
    """(conditions) -> position of one that is ready, where wires live in another process"""

    def __init__(self, engine: Any):
        self.engine = engine
        self.lock = threading.Lock()
        self.root: Worker
        self.asleep: dict[Worker, None] = {}

    def clock(self) -> float:
        """Seconds for timers."""
        raise NotImplementedError

    def time(self) -> float:
        """Seconds in which deadlines are given: virtual on scheduled kernels."""
        raise NotImplementedError

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        """Run the root worker to its end; returns or raises what it does."""
        raise NotImplementedError

    def start(self, worker: Worker, body: Callable[[], None]) -> None:
        """Begin another worker. `body` never raises."""
        raise NotImplementedError

    def call(self, worker: Worker, fn: Callable, args: tuple) -> None:
        """A worker's life: fn(index, *args), where it runs."""
        fn(worker.index, *args)

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """So many workers of a role are about to start, their indices from `first` on: find places for them."""

    def wrap(self, worker: Worker, item: Any) -> Any:
        """An item in the form in which wires hold it."""
        return item

    def unwrap(self, worker: Worker, item: Any, shared: bool = False) -> Any:
        """An item as the worker that gets it wants it; `shared` with others, it must not be written to."""
        return item

    def allocate(self, size: int) -> tuple[Any, Any]:
        """(buffer of `size` zeros that all workers can write to, the shared segment it lies in or None)."""
        return np.zeros(size, np.uint8).data, None

    def vector(self, *args: Any) -> Vector:
        """A shared vector; see `Vector` for the arguments."""
        return Vector(*args)

    def chunk_locks(self, segment: Any, count: int) -> ChunkLocks:
        """Locks on the chunks of what lies in a segment that `allocate` gave."""
        return NoLocks()

    def join(self, body: Worker, workers: Iterable[Worker]) -> list[Worker]:
        """Wait until these workers have ended; returns those that did not within the engine's bound."""
        raise NotImplementedError

    def run_phase(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        """Call fn(*args) as this worker's phase."""
        raise NotImplementedError

    def run_wire_work(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        """As `run_phase`, for a wire's own work on shared state: never beside another worker in fixed order."""
        return self.run_phase(worker, name, fn, args)

    def charge(self, worker: Worker, name: str, nbytes: int, partner: str, count: int = 1) -> None:  # noqa: PLR0913
        """Spend the cost of a message, or of `count` that go out together, before it is delivered, between the worker
        and somebody of the role `partner`. Called without the lock, and only if `charges`."""

    def retire(self, worker: Worker) -> None:
        """A worker has ended; called by itself, with the lock held."""

    def set_deadline(self, worker: Worker, deadline: float) -> None:
        """Give a parked worker that has no deadline one."""
        raise NotImplementedError

    def _suspend(self, worker: Worker, deadline: float | None) -> bool:
        """Let others run until `worker.parked` is False (True) or the deadline has passed (False)."""
        raise NotImplementedError

    def _resume(self, worker: Worker) -> None:
        raise NotImplementedError

    def park(self, worker: Worker, what: str, detail: str = "", deadline: float | None = None) -> bool:
        """Wait until woken (True) or until the deadline (False); raises the worker's interruption.

        Args:
          what: name under which the wait is timed, such as "get TRAJ".
          detail: more for the message of a deadlock.
        """
        worker.check()
        began = self.clock()
        self._lay_down(worker, what, detail)
        for group in worker.groups:
            group.settle()
        woken = self._suspend(worker, deadline)
        waits = worker.waits
        waits[what] = waits.get(what, 0.0) + self.clock() - began
        worker.check()
        return woken

    def wake(self, worker: Worker) -> None:
        """Let a parked worker run again; nothing for one that runs."""
        if worker.parked:
            self._get_up(worker)
            self._resume(worker)

    def interrupt(self, worker: Worker, error: BaseException) -> None:
        """Have the worker raise this at its next primitive, or now if it waits. The first interruption stays."""
        if worker.interrupt is None:
            worker.interrupt = error
        self.wake(worker)

    def _lay_down(self, worker: Worker, what: str, detail: str = "") -> None:
        worker.waiting_in, worker.detail = what, detail
        worker.parked = True
        self.asleep[worker] = None
        for group in worker.groups:
            group.waiting += 1

    def _get_up(self, worker: Worker) -> None:
        worker.parked = False
        self.asleep.pop(worker, None)
        for group in worker.groups:
            group.waiting -= 1

    def _end_deadlock(self) -> None:
        """Nobody can run: the root worker is told why, and unwinds everything."""
        if self.engine.stop_reason is None and self.root.interrupt is None:
            self.root.interrupt = Deadlock(describe_waits(self.asleep))
        self.wake(self.root)


def timed_phase(worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
    """Call fn(*args) as a phase in real time, sleeping on when the worker is slowed down."""
    worker.busy = name
    began = perf_counter()
    try:
        return fn(*args)
    finally:
        spent = perf_counter() - began
        if worker.slow != 1.0:
            sleep(spent * (worker.slow - 1.0))
            spent = perf_counter() - began
        worker.busy = None
        phases = worker.phases
        phases[name] = phases.get(name, 0.0) + spent


def describe_waits(workers: Iterable[Worker], limit: int = 8) -> str:
    """Who waits for what, one clause for each kind of wait, in one line."""
    waits: dict[tuple[str, str, str], list[int]] = {}
    for worker in workers:
        text = f"{worker.waiting_in}{f' ({worker.detail})' if worker.detail else ''}"
        waits.setdefault((worker.path or "/", worker.role, text), []).append(worker.index)
    clauses = []
    for (path, role, text), indices in list(waits.items())[:limit]:
        names = ", ".join(str(i) for i in sorted(indices)[:limit]) + (", ..." if len(indices) > limit else "")
        clauses.append(f"{path} {role}/{names} in {text}")
    more = f"; and {len(waits) - limit} more" if len(waits) > limit else ""
    return f"every worker waits for another: {'; '.join(clauses)}{more}; no message can arrive any more"
