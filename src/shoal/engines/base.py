# SPDX-License-Identifier: Apache-2.0
"""An engine: runs one program of roles and wires, and keeps its books (ledger, timers, losses)."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from shoal.engines.faults import Stopped, one_line
from shoal.engines.kernels.base import Kernel
from shoal.engines.kernels.fixed import FixedKernel
from shoal.engines.kernels.machine import Machine
from shoal.engines.kernels.scheduled import Cost, ScheduledKernel
from shoal.engines.kernels.threaded import ThreadedKernel
from shoal.engines.ledger import Ledger
from shoal.engines.worker import Worker
from shoal.errors import ConfigError

JOIN_SECONDS = 60.0
HANG_SECONDS = 60.0


class Engine:
    """Made by `make_engine`.

    Attributes:
      stop_reason: what the first `stop` gave, else None.
      on_note: called with the metrics of every `note`, one call at a time, on the noting worker's thread.
      join_seconds: how long the leaving of a system waits for workers inside a phase before it raises HangError.
      hang_seconds: how long a worker's process may do nothing before it is taken for stuck and ended.
      preload: modules that workers' processes will need, imported once for all of them.
      around: (role, phase, function, arguments) -> what the function returns; calls it in the place of engines that
        run all workers on one thread, to time each phase alone.
    """

    def __init__(self, name: str, order: str, make_kernel: Callable[["Engine"], Kernel], slow: Mapping[str, float]):
        self.name, self.order = name, order
        self.ledger = Ledger()
        self.stop_reason: str | None = None
        self.on_note: Callable[..., None] | None = None
        self.join_seconds = JOIN_SECONDS
        self.hang_seconds = HANG_SECONDS
        self.preload: Sequence[str] = ()
        self.around: Callable[[str, str, Callable, tuple], Any] | None = None
        self.cluster: Any = None
        """where workers of the engine ray run; see `cluster.places.Cluster`"""
        self.pids: list[dict[str, Any]] = []
        """of workers that are processes: {"system", "role", "index", "epoch", "pid"}, on clusters the "node" too"""
        self._make_kernel, self.slowdowns = make_kernel, dict(slow)
        self._kernel: Kernel | None = None
        self._began = 0.0
        self._books = threading.RLock()
        self._workers: dict[Worker, None] = {}
        self._phases: dict[str, dict[str, float]] = {}
        self._waits: dict[str, dict[str, float]] = {}
        self._losses: list[str] = []

    def run(self, fn: Callable, *args: Any) -> Any:
        """Run fn(*args) as the root worker and return its value, or None when the engine was stopped.

        Raises what fn raises, RoleFailed when a worker of its systems raised, Deadlock when all wait for one another.
        """
        if self._kernel is not None and any(not w.ended for w in self._workers):
            raise ConfigError("this engine is running: make another with make_engine")
        self._kernel = kernel = self._make_kernel(self)
        root = Worker(self, kernel, {})
        root.become("", "main", 0)
        self.admit(root)
        self._began = kernel.clock()
        try:
            return kernel.run(root, partial(fn, *args))
        except Stopped:
            return None
        finally:
            root.ended = True
            self.retire(root)

    def stop(self, reason: str) -> None:
        """Ask everything to end. Sets one flag and nothing else, so a signal handler may call it."""
        if self.stop_reason is None:
            self.stop_reason = reason

    def rows(self) -> list[dict[str, Any]]:
        """The ledger: {system, source, target, message, via, count, bytes, lag_mean, lag_max}; declared wires too."""
        return self.ledger.rows()

    def phases(self) -> dict[str, dict[str, float]]:
        """Seconds so far by role and phase, summed over the role's workers."""
        return self._sum(0)

    def waits(self) -> dict[str, dict[str, float]]:
        """Seconds so far by role and wait ("get TRAJ"), summed over the role's workers. A wait counts when it ends."""
        return self._sum(1)

    def fill(self) -> dict[str, tuple[float, int]]:
        """By message, how full consumers found its channels: the sum of fractions, and how often they came."""
        return self.ledger.fill()

    def drops(self) -> dict[str, int]:
        """By message, how many items channels threw away: the oldest when full, or older than max_lag."""
        return dict(self.ledger.dropped)

    def lost_messages(self) -> dict[str, int]:
        """By message, how many items were lost with the nodes that they lay on."""
        return dict(self.ledger.lost)

    def headcount(self) -> dict[str, int]:
        """Workers by role, those that have ended left out."""
        with self._books:
            return dict(Counter(worker.role for worker in self._workers if not worker.ended))

    def losses(self) -> list[str]:
        """One line for every worker that was dropped or restarted."""
        return list(self._losses)

    def now(self) -> float:
        """Seconds since the run began: virtual on the simulated engine, else real."""
        return 0.0 if self._kernel is None else self._kernel.clock() - self._began

    def slowdown(self, role: str, index: int) -> float:
        """Factor on this worker's phases."""
        return self.slowdowns.get(f"{role}/{index}", self.slowdowns.get(role, 1.0))

    def born(self, worker: Worker, pid: int, node: str | None = None) -> None:
        """A worker's process has started."""
        worker.pid = pid
        place = {"system": worker.path, "role": worker.role, "index": worker.index, "epoch": worker.epoch, "pid": pid}
        self.pids.append(place if node is None else {**place, "node": node})

    def admit(self, worker: Worker) -> None:
        """Keep a worker's timers in view."""
        with self._books:
            self._workers[worker] = None

    def retire(self, worker: Worker) -> None:
        """Add an ended worker's timers to the totals, so that short-lived workers leave nothing behind."""
        with self._books:
            self._workers.pop(worker, None)
            for role, (phases, waits) in worker.timers.items():
                _add(self._phases.setdefault(role, {}), phases)
                _add(self._waits.setdefault(role, {}), waits)

    def record_loss(self, worker: Worker, what: str, error: BaseException) -> None:
        """Remember a worker that was dropped or restarted."""
        with self._books:
            self._losses.append(f"{worker} (epoch {worker.epoch}) {what}: {one_line(error)}")

    def take_note(self, metrics: dict[str, Any]) -> None:
        """Pass on a worker's metrics."""
        if self.on_note is not None:
            with self._books:
                self.on_note(**metrics)

    def _sum(self, which: int) -> dict[str, dict[str, float]]:
        with self._books:
            totals = {role: dict(t) for role, t in (self._phases, self._waits)[which].items()}
            for worker in self._workers:
                for role, timers in list(worker.timers.items()):
                    _add(totals.setdefault(role, {}), dict(timers[which]))
        return {role: timers for role, timers in totals.items() if timers}


def _add(total: dict[str, float], more: dict[str, float]) -> None:
    for name, seconds in more.items():
        total[name] = total.get(name, 0.0) + seconds


NAMES = ("inline", "threads", "processes", "ray", "simulated")
IN_PROCESSES = ("processes", "ray")
"""engines whose workers are processes of their own"""
ORDERS = ("free", "fixed")


def check_engine(name: str, order: str = "free") -> None:
    """Raise ConfigError unless there is such an engine."""
    if name not in NAMES:
        raise ConfigError(f"engine {name!r} is unknown: use {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    if order not in ORDERS:
        raise ConfigError(f"order {order!r} is unknown: use {' or '.join(ORDERS)}")


def make_engine(
    name: str,
    order: str = "free",
    costs: Mapping[str, Cost] | None = None,
    slow: Mapping[str, float] | None = None,
    machine: Callable[[], Machine] | None = None,
    cluster: Any = None,
) -> Engine:
    """An engine: where and in which order a program runs.

    Args:
      name: inline (one thread, always in fixed order), threads, processes, ray (a cluster's nodes), or simulated
        (virtual time).
      order: "free", or "fixed" for an order that depends on nothing but the program and the costs.
      costs: virtual seconds by phase name, for everything but threads in free order; see ScheduledKernel.
      slow: factors by "role/index" or "role": that worker's phases take so many times as long.
      machine: makes what workers share in simulated time, one for each run; costs that are `Work` are spent on it.
      cluster: where workers run on ray, open already: see `cluster.places.Cluster`.
    """
    slow = dict(slow or {})
    check_engine(name, order)
    for who, factor in slow.items():
        if factor < 1:
            raise ConfigError(f"slow={{{who!r}: {factor}}}: a worker can be slowed only, use a factor of at least 1")
    if machine is not None and name != "simulated":
        raise ConfigError(f"a machine is what workers share in simulated time, {name} runs on the real one")
    if name == "inline":
        return Engine(name, "fixed", lambda e: ScheduledKernel(e, costs, virtual_clock=False), slow)
    if name == "simulated":
        made = machine or (lambda: None)
        return Engine(name, "fixed", lambda e: ScheduledKernel(e, costs, virtual_clock=True, machine=made()), slow)
    if order == "free" and costs is not None:
        raise ConfigError(f"costs are virtual time, {name} in free order run in real time: use order='fixed'")
    if name in IN_PROCESSES:
        engine = Engine(name, order, partial(process_kernel, order, costs), slow)
        engine.cluster = cluster
        return engine
    if order == "fixed":
        return Engine(name, order, lambda e: FixedKernel(e, costs, virtual_clock=False), slow)
    return Engine(name, order, ThreadedKernel, slow)


def process_kernel(order: str, costs: Mapping[str, Cost] | None, engine: Engine) -> Kernel:
    """The kernel of processes here or on a cluster. Raises ConfigError for costs that look at a phase's arguments."""
    from shoal.engines.kernels.cluster import FixedClusterKernel, FreeClusterKernel
    from shoal.engines.kernels.processes import FixedProcessKernel, FreeProcessKernel

    free, fixed = FreeProcessKernel, FixedProcessKernel
    if engine.name == "ray":
        free, fixed = FreeClusterKernel, FixedClusterKernel
    if order == "free":
        return free(engine)
    for name, cost in (costs or {}).items():
        if callable(cost) and " " not in name:
            raise ConfigError(
                f"the cost of {name!r} is a function of arguments that stay in another process: use a number"
            )
    return fixed(engine, costs, virtual_clock=False)
