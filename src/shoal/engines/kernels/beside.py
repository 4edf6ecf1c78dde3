# SPDX-License-Identifier: Apache-2.0
"""Processes beside a worker in simulated time: they do what it hands them while it goes on, and it can wait for them.

    worker   begin --- goes on --- wait ......... goes on
    beside     '-- work ---- work ----------- work '

Each is a process of its own on the worker's node, with work that is done one piece after the other. A worker may begin
and wait inside a phase, as it would with real processes that the engine knows nothing of; the time of its waits is the
phase's.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from shoal.engines.kernels.machine import Site, Work
from shoal.engines.kernels.scheduled import ScheduledKernel
from shoal.engines.worker import Worker, current
from shoal.errors import ShoalError


class Beside:
    """`count` processes of one worker, which is the one that uses them.

    Raises ShoalError where work does not go on in virtual time.

    Check: two with a second of work each have done it after one second on two cores, and after two on one.
    """

    def __init__(self, count: int):
        self._queues: list[deque[tuple[Work, Callable[[], None]]]] = [deque() for _ in range(count)]
        self._processes: dict[int, Worker] = {}
        self._at_work = [False] * count
        self._waits: tuple[Worker, Callable[[], bool]] | None = None
        """who waits, and for what"""

    def begin(self, number: int, work: Work, then: Callable[[], None]) -> None:
        """Process `number` does a piece of work after what it has to do already, and calls `then` at its end."""
        owner, kernel = _here()
        self._queues[number].append((work, then))
        if self._at_work[number]:
            return
        process = self._processes.get(number)
        if process is None:
            process = self._processes[number] = _process_of(owner, kernel, number)
        self._at_work[number] = True
        kernel.start(process, lambda: self._work(kernel, process, number))

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `ready()`, which is asked whenever a piece ends, or for so long; returns whether it is."""
        owner, kernel = _here()
        if ready():
            return True
        self._waits = owner, ready
        kernel.hold(owner, None if seconds is None else kernel.virtual_now + seconds)
        self._waits = None
        return ready()

    def _work(self, kernel: ScheduledKernel, process: Worker, number: int) -> None:
        queue = self._queues[number]
        while queue:
            work, then = queue.popleft()
            kernel.spend(process, work)
            then()
            if self._waits is not None and self._waits[1]():
                owner, self._waits = self._waits[0], None
                kernel.go_on(owner)
        self._at_work[number] = False


def _here() -> tuple[Worker, ScheduledKernel]:
    worker = current.get()
    kernel: Any = None if worker is None else worker.kernel
    if worker is None or not isinstance(kernel, ScheduledKernel) or not kernel.virtual_clock:
        where = "no engine" if worker is None else f"engine {worker.engine.name!r}"
        raise ShoalError(f"{where} runs here, and work beside a worker is for simulated time; use engine 'simulated'")
    return worker, kernel


def _process_of(owner: Worker, kernel: ScheduledKernel, number: int) -> Worker:
    """A process on its owner's node, by the owner's name."""
    process = Worker(owner.engine, kernel, {})
    process.become(owner.path, f"beside {owner.role}/{owner.index}", number)
    if kernel.machine is not None:
        process.site = Site(kernel.machine.site_of(owner).node, None)
    return process
