# SPDX-License-Identifier: Apache-2.0
"""One thread, virtual time: a heap of (time, sequence) resumes greenlets.

    inline      every phase costs UNIT_COST: the reference order and the debugger
    simulated   phases and messages cost what a table says; timers and clocks are virtual

A phase calls its function at its beginning and then spends its cost, times the worker's slowdown: whoever is due
earlier runs first. Ties go to whoever was queued first. Nobody due with workers parked is exactly a deadlock.

Costs that are numbers are spent beside whatever others do. Costs that are `Work` are spent on a machine, whose cores
workers share: then they take longer the more is done at the same time.

JAX keeps thread-local state that greenlets share, so no primitive may be used inside a trace or a JAX context
manager. The contextvars of each worker are its own.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from time import perf_counter
from typing import Any

from greenlet import getcurrent, greenlet

from shoal.engines.kernels.base import Kernel, describe_waits
from shoal.engines.kernels.machine import Machine, Work, pieces_of
from shoal.engines.worker import Worker, current
from shoal.errors import ConfigError

UNIT_COST = 0.001
"""Virtual seconds of a phase without a table. Deadlines on scheduled engines are in this time."""

Cost = float | Work | Callable[..., float | Work | list[Work]]


class ScheduledKernel(Kernel):
    """Runs all workers in virtual-time order on the caller's thread.

    Args:
      costs: virtual seconds by phase name, a number or a function of the phase's arguments; "*" for all others.
        Names with a space are messages ("put TRAJ", "pull PARAM", "send OBS", "reply ACT"), a number or a function of
        bytes and of how many go out together, which may give several works in a row; free unless named.
      virtual_clock: timers and `now` in virtual time rather than real.
      machine: what costs that are `Work` are spent on; without one nobody shares anything.
    """

    def __init__(
        self, engine: Any, costs: Mapping[str, Cost] | None, virtual_clock: bool, machine: Machine | None = None
    ):
        super().__init__(engine)
        self.machine = machine
        self.costs: dict[str, Cost] = dict(costs) if costs else {"*": UNIT_COST}
        self.charges = any(" " in name for name in self.costs) or (machine is not None and machine.link is not None)
        self.virtual_clock = virtual_clock
        self.virtual_now = 0.0
        self._heap: list[tuple[float, int, Worker, int]] = []
        self._sequence = 0
        self._hub: Any = None
        self._newborn: Any = None
        self._unwinding = False

    def clock(self) -> float:
        return self.virtual_now if self.virtual_clock else perf_counter()

    def time(self) -> float:
        return self.virtual_now

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        self.root, self._hub = root, getcurrent()
        outcome: list[tuple[bool, Any]] = []

        def main() -> None:
            try:
                outcome.append((True, body()))
            except BaseException as error:  # noqa: BLE001 raised again below, on the caller's stack
                outcome.append((False, error))

        self.start(root, main)
        while not outcome:
            target = self._next() if self._newborn is None else self._newborn
            if target is not self._hub:
                self._newborn = None
                target.switch()
            elif self._newborn is None:
                self._unwind()
        returned, value = outcome[0]
        if returned:
            return value
        raise value

    def _unwind(self) -> None:
        if self._unwinding:
            raise RuntimeError(f"{describe_waits(self.asleep)}, not even to unwind")
        self._unwinding = True
        with self.lock:
            self._end_deadlock()

    def start(self, worker: Worker, body: Callable[[], None]) -> None:
        worker.fiber = greenlet(body, parent=self._hub)
        context = copy_context()
        context.run(current.set, worker)
        worker.fiber.gr_context = context
        self._queue(worker, self.virtual_now)

    def join(self, body: Worker, workers: Iterable[Worker]) -> list[Worker]:
        left = list(workers)
        with self.lock:
            while left:
                if left[-1].ended:
                    left.pop()  # each is looked at once: the body is woken for every one of them
                    continue
                self._lay_down(body, "leaving its system")
                self._suspend(body, None)
        return []

    def run_phase(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        cost, around = self.costs.get(name), self.engine.around
        if cost is None or callable(cost):
            cost = self._cost(name, args)
        worker.busy = name
        began, began_real = self.virtual_now, 0.0 if self.virtual_clock else perf_counter()
        try:
            return fn(*args) if around is None else around(worker.role, name, fn, args)
        finally:
            worker.busy = None
            phases = worker.phases
            spent = 0.0 if self.virtual_clock else perf_counter() - began_real
            self.spend(worker, cost)
            phases[name] = phases.get(name, 0.0) + (self.virtual_now - began if self.virtual_clock else spent)
            if worker.interrupt is not None or self.engine.stop_reason is not None:
                worker.check()

    def charge(self, worker: Worker, name: str, nbytes: int, partner: str, count: int = 1) -> None:  # noqa: PLR0913
        cost = self.costs.get(name)
        if cost is not None:
            spent = cost(nbytes, count) if callable(cost) else cost
            for one in spent if isinstance(spent, list) else (spent,):
                self.spend(worker, one)
        if self.machine is not None and self.machine.link is not None:
            self._cross(worker, self.machine, nbytes, partner)
        worker.check()

    def _cross(self, worker: Worker, machine: Machine, nbytes: int, partner: str) -> None:
        """Spend the time of a message on the link of a node, where it crosses one."""
        node = machine.link_between(worker, partner)
        if node is not None:
            assert machine.link is not None
            self._pass(worker, machine.link.latency_s)
            machine.cross(worker, node, nbytes / machine.link.bytes_per_s, self.virtual_now)
            self._next().switch()

    def spend(self, worker: Worker, cost: float | Work) -> None:
        """Let the time go by in which a worker is at work."""
        machine = self.machine
        if machine is None or type(cost) is not Work:
            self._pass(worker, (cost.seconds if isinstance(cost, Work) else cost) * worker.slow)
            return
        if cost.idle:
            self._pass(worker, cost.idle * worker.slow)
        for piece in pieces_of(cost, machine.site_of(worker)):
            machine.take_up(worker, cost, piece, self.virtual_now)
            target = self._next()
            if target is not worker.fiber:
                target.switch()

    def hold(self, worker: Worker, deadline: float | None) -> None:
        """Let others run until `go_on` or the deadline. The worker is at work meanwhile: this is no wait for a wire."""
        worker.turn += 1
        if deadline is not None:
            self._queue(worker, deadline)
        self._next().switch()

    def go_on(self, worker: Worker) -> None:
        """Let a worker run again that is held; its deadline, if it had one, is void."""
        worker.turn += 1
        self._queue(worker, self.virtual_now)

    def _pass(self, worker: Worker, seconds: float) -> None:
        """Let seconds go by for a worker, whatever others do."""
        due = self.virtual_now + seconds
        if due < (self._heap[0][0] if self._heap else math.inf) and (self.machine is None or due < self.machine.due()):
            self.virtual_now = due
        else:
            self._queue(worker, due)
            self._next().switch()

    def set_deadline(self, worker: Worker, deadline: float) -> None:
        self._queue(worker, deadline)

    def _suspend(self, worker: Worker, deadline: float | None) -> bool:
        worker.turn += 1
        if deadline is not None:
            self._queue(worker, deadline)
        self.lock.release()
        try:
            self._next().switch()
        finally:
            self.lock.acquire()
        if worker.parked:  # its deadline brought it back, nobody woke it
            worker.turn += 1
            self._get_up(worker)
            return False
        return True

    def _resume(self, worker: Worker) -> None:
        self.go_on(worker)

    def _queue(self, worker: Worker, due: float) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, worker, worker.turn))

    def _next(self) -> Any:
        """Whose turn it is, and set the time; the hub when nobody can run.

        A greenlet's first switch comes from the hub: it inherits the stack depth of where it is started, and workers
        that started one another would pile up to Python's recursion limit.
        """
        heap, machine = self._heap, self.machine
        piece_due = math.inf if machine is None else machine.due()
        while heap:
            due, _, worker, turn = heap[0]
            if piece_due < due:
                break
            heapq.heappop(heap)
            if turn == worker.turn and not worker.ended:
                if due > self.virtual_now:
                    self.virtual_now = due
                if not worker.fiber:
                    self._newborn = worker.fiber
                    return self._hub
                return worker.fiber
        if machine is not None and piece_due < math.inf:
            self.virtual_now = piece_due
            return machine.finish().fiber
        return self._hub

    def _cost(self, name: str, args: tuple) -> Any:
        cost = self.costs.get(name)
        if cost is None:
            cost = self.costs.get("*")
            if cost is None:
                raise ConfigError(f'phase {name!r} has no cost: add it to the table of costs, or "*" for all others')
        return cost(*args) if callable(cost) else cost
