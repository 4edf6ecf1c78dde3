# SPDX-License-Identifier: Apache-2.0
"""Fixed order on threads: the scheduled kernel, with each worker's phases on a thread of its own.

Phases that overlap in virtual time really run at once; everything between them runs in virtual-time order on the
scheduler's thread, so the order of all messages is that of the inline engine with the same costs. What the phases
really take changes nothing but the time: the scheduler waits for a phase when its virtual end is due.

Processes in fixed order plug in here too: a lane then sends its phases to a child.
"""

from collections.abc import Callable, Iterable
from contextvars import copy_context
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any

from shoal.engines.kernels.base import timed_phase
from shoal.engines.kernels.scheduled import ScheduledKernel
from shoal.engines.worker import Worker

LOOK_S = 0.05
"""Seconds between looks at a worker's interruption while its phase is waited for."""


class Lane:
    """One worker's thread, doing one phase at a time."""

    def __init__(self, worker: Worker):
        self._worker = worker
        self._jobs: SimpleQueue[tuple[str, Callable, tuple] | None] = SimpleQueue()
        self._over = Lock()
        self._over.acquire()
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        name = f"shoal {worker}"
        self._thread = Thread(target=copy_context().run, args=(self._work,), name=name, daemon=True)
        self._thread.start()

    def submit(self, name: str, fn: Callable, args: tuple) -> None:
        """Begin a phase."""
        self._jobs.put((name, fn, args))

    def result(self) -> Any:
        """Wait for the phase and return or raise what it did. An interrupted worker waits only for so long."""
        until = None
        while not self._over.acquire(timeout=LOOK_S):
            worker = self._worker
            if worker.interrupt is not None or worker.engine.stop_reason is not None:
                until = until or monotonic() + worker.engine.join_seconds
                if monotonic() > until:
                    worker.check()  # raises; leaving the system then finds this thread still alive
        value, error = self._outcome
        self._outcome = (None, None)
        if error is not None:
            raise error
        return value

    def close(self, seconds: float) -> bool:
        """End the thread; False when it would not."""
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._outcome = (timed_phase(self._worker, *job), None)
            except BaseException as error:  # noqa: BLE001 raised in the worker, by result()
                self._outcome = (None, error)
            self._over.release()


class FixedKernel(ScheduledKernel):
    """As ScheduledKernel, phases on lanes. A vector's pushes stay on the scheduler's thread: their order counts."""

    via = "thread"

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        try:
            return super().run(root, body)
        finally:
            if root.lane is not None:
                root.lane.close(self.engine.join_seconds)

    def join(self, body: Worker, workers: Iterable[Worker]) -> list[Worker]:
        workers = list(workers)
        super().join(body, workers)
        until = monotonic() + self.engine.join_seconds
        return [w for w in workers if w.lane is not None and not w.lane.close(max(0.05, until - monotonic()))]

    def run_phase(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        cost = self._cost(name, args) * worker.slow
        if worker.lane is None:
            worker.lane = Lane(worker)
        worker.busy = name  # its lane clears this
        worker.lane.submit(name, fn, args)
        self._queue(worker, self.virtual_now + cost)
        self._next().switch()
        value = worker.lane.result()
        worker.check()
        return value

    def run_wire_work(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        return super().run_phase(worker, name, fn, args)
