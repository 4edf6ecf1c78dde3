# SPDX-License-Identifier: Apache-2.0
"""Real threads in free order: one engine lock, and a gate for each worker to wait at.

A waker hands over to one named worker, so a wake costs one switch however many wait. A deadlock is seen the moment
it arises: nobody runs and nobody has a deadline. One small thread looks for the engine's stop flag, because a signal
handler may do no more than set it.
"""

import threading
from collections.abc import Callable, Iterable
from contextvars import copy_context
from time import monotonic, perf_counter
from typing import Any

from shoal.engines.kernels.base import Kernel, timed_phase
from shoal.engines.wires.locks import ChunkLocks, ThreadLocks
from shoal.engines.worker import Worker, current

STOP_LOOK_S = 0.04
"""Seconds between looks at the stop flag while workers wait."""


class ThreadedKernel(Kernel):
    """Every worker is a thread; the root worker is the caller's."""

    via = "thread"

    def __init__(self, engine: Any):
        super().__init__(engine)
        self._running = 0
        self._with_deadline = 0
        self._over = threading.Event()

    def clock(self) -> float:
        return perf_counter()

    def time(self) -> float:
        return perf_counter()

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        self.root = root
        self._admit(root)
        root.thread = threading.current_thread()
        watch = threading.Thread(target=self._watch_stop, name="shoal stop flag", daemon=True)
        watch.start()
        context = copy_context()
        context.run(current.set, root)
        try:
            return context.run(body)
        finally:
            self._over.set()
            watch.join()

    def start(self, worker: Worker, body: Callable[[], None]) -> None:
        with self.lock:
            self._admit(worker)
        context = copy_context()
        context.run(current.set, worker)
        worker.thread = threading.Thread(target=context.run, args=(body,), name=f"shoal {worker}", daemon=True)
        worker.thread.start()

    def join(self, body: Worker, workers: Iterable[Worker]) -> list[Worker]:
        until = monotonic() + self.engine.join_seconds
        hung = []
        for worker in workers:
            worker.thread.join(max(0.0, until - monotonic()))
            if worker.thread.is_alive():
                hung.append(worker)
        return hung

    def chunk_locks(self, segment: Any, count: int) -> ChunkLocks:
        return ThreadLocks(count)

    def run_phase(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        return timed_phase(worker, name, fn, args)

    def retire(self, worker: Worker) -> None:
        self._running -= 1
        self._look_for_deadlock()

    def set_deadline(self, worker: Worker, deadline: float) -> None:
        if worker.deadline is None:
            self._with_deadline += 1
        worker.deadline = deadline
        self._signal(worker)

    def _admit(self, worker: Worker) -> None:
        worker.gate = threading.Lock()
        worker.gate.acquire()
        self._running += 1

    def _suspend(self, worker: Worker, deadline: float | None) -> bool:
        self._running -= 1
        if deadline is not None:
            worker.deadline = deadline
            self._with_deadline += 1
        self._look_for_deadlock()
        try:
            while worker.parked:
                if worker.deadline is not None and perf_counter() >= worker.deadline:
                    return False
                self._wait_at_gate(worker)
            return True
        finally:
            if worker.parked:  # the deadline, or an exception that a signal handler raised
                self._get_up(worker)
                self._account(worker)

    def _wait_at_gate(self, worker: Worker) -> None:
        timeout = -1 if worker.deadline is None else max(0.0, worker.deadline - perf_counter())
        self.lock.release()
        try:
            worker.gate.acquire(timeout=timeout)
        finally:
            self.lock.acquire()
        if worker.signalled:
            worker.signalled = False
            worker.gate.acquire(blocking=False)  # a signal that came after the timeout left the gate open

    def _resume(self, worker: Worker) -> None:
        self._account(worker)
        self._signal(worker)

    def _account(self, worker: Worker) -> None:
        self._running += 1
        if worker.deadline is not None:
            worker.deadline = None
            self._with_deadline -= 1

    def _signal(self, worker: Worker) -> None:
        if not worker.signalled:
            worker.signalled = True
            worker.gate.release()

    def _look_for_deadlock(self) -> None:
        if self._running == 0 and self._with_deadline == 0 and self.root.parked:
            self._end_deadlock()

    def _watch_stop(self) -> None:
        while not self._over.wait(STOP_LOOK_S):
            if self.engine.stop_reason is not None:
                with self.lock:
                    for worker in list(self.asleep):
                        self.wake(worker)
                return
