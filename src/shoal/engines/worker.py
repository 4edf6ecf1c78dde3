# SPDX-License-Identifier: Apache-2.0
"""Workers: the record of each, and the ambient current one that every primitive acts for.

The current worker lives in a ContextVar. Spawning copies the spawner's context, so that each worker has its own. A
worker is somebody in every system around it: `roles` maps a system's path to its role and index there, and the
innermost one is `path`, `role`, `index`. Timers are plain dicts of floats that only the worker itself writes.

Where workers are processes, a child's worker record stays in the main process, and a shadow that has it as its current
worker executes the primitives the child asks for.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from shoal.engines.faults import Stopped
from shoal.errors import ShoalError
from shoal.processes.ports import LOOPBACK

Timers = dict[str, float]


class Me(NamedTuple):
    """Who the current worker is."""

    role: str
    index: int
    epoch: int
    """how often it was restarted"""
    path: str
    """of the innermost system, such as /pbt/a2c; / outside of all"""
    host: str = LOOPBACK
    """address at which other workers reach this one's machine: loopback where all run on one"""


class Group:
    """The workers of one role in one system: how many there are, live, and wait. Guarded by the kernel's lock."""

    __slots__ = ("live", "on_idle", "role", "started", "waiting")

    def __init__(self, role: str):
        self.role = role
        self.started = self.live = self.waiting = 0
        self.on_idle: list[Callable[[], None]] = []

    @property
    def idle(self) -> bool:
        """Nobody in it is running."""
        return self.waiting >= self.live

    @property
    def ended(self) -> bool:
        """There were workers, and none is left."""
        return self.started > 0 and self.live == 0

    def settle(self) -> None:
        """Tell the wires when nobody runs any more."""
        if self.waiting >= self.live:
            for tell in self.on_idle:
                tell()


class Worker:
    """One line of execution: a greenlet, a thread, later a process's shadow."""

    __slots__ = (
        "_stack", "busy", "deadline", "detail", "engine", "ended", "epoch", "fiber", "gate", "groups", "inbox", "index",
        "interrupt", "kernel", "lane", "parked", "path", "phases", "pid", "role", "roles", "run_phase", "shadow",
        "signalled", "site", "slow", "thread", "timers", "turn", "waiting_in", "waits", "wanted",
    )  # fmt: skip

    def __init__(self, engine: Any, kernel: Any, roles: dict[str, tuple[str, int]]):
        self.engine, self.kernel, self.roles = engine, kernel, roles
        self.run_phase = kernel.run_phase
        self.epoch = 0
        self.ended = False
        self.busy: str | None = None
        """the phase it is in"""
        self.interrupt: BaseException | None = None
        """what its next primitive raises"""
        self.parked = False
        self.waiting_in = self.detail = ""
        self.groups: list[Group] = []
        self.inbox: Any = None
        """where the waking side leaves what this worker waits for"""
        self.wanted = 0
        self.timers: dict[str, tuple[Timers, Timers]] = {}
        """role: (phases, waits), in seconds"""
        self.shadow: Any = None
        """where this worker is a process: who executes its primitives here"""
        self.pid: int | None = None
        self.fiber: Any = None
        self.thread: Any = None
        self.lane: Any = None
        self.gate: Any = None
        self.signalled = False
        self.deadline: float | None = None
        self.turn = 0
        self._stack: list[tuple] = []

    def become(self, path: str, role: str, index: int) -> None:
        """Act as this role from here on; timers go to the role's account."""
        self.path, self.role, self.index = path, role, index
        self.roles[path] = (role, index)
        self.phases, self.waits = self.timers.setdefault(role, ({}, {}))
        self.slow = self.engine.slowdown(role, index)
        self.site: Any = None
        """where it is on a simulated machine, once somebody has looked"""

    def enter(self, path: str, role: str, group: Group | None = None) -> None:
        """Become the body of a system; a child has no part in its groups."""
        self._stack.append((self.path, self.role, self.index, self.roles, self.groups))
        self.roles = dict(self.roles)
        self.become(path, role, 0)
        if group is not None:
            self.groups = [*self.groups, group]

    def leave(self) -> None:
        """Be again who it was before `enter`."""
        path, role, index, self.roles, self.groups = self._stack.pop()
        self.become(path, role, index)

    def refuse(self) -> None:
        """Raise what keeps this worker from using a primitive now."""
        if self.busy is not None:
            raise ShoalError(
                f"{self} used a primitive inside its phase {self.busy!r}: a phase may not block or nest; "
                "end it first, or pass what it needs as arguments"
            )
        self.check()

    def check(self) -> None:
        """Raise this worker's interruption, if it has one."""
        if self.interrupt is not None:
            if isinstance(self.interrupt, Stopped):
                raise Stopped(*self.interrupt.args)  # a new one: the same would collect every traceback
            raise self.interrupt
        if self.engine.stop_reason is not None:
            raise Stopped(self.engine.stop_reason)

    def __str__(self) -> str:
        return f"{self.path or '/'} {self.role}/{self.index}"


current: ContextVar[Worker | None] = ContextVar("shoal_worker", default=None)


def here() -> Worker:
    """The current worker, about to use a primitive."""
    worker = current.get()
    if worker is None:
        raise ShoalError("no engine is running here: pass the function to make_engine(...).run")
    if worker.busy is not None or worker.interrupt is not None or worker.engine.stop_reason is not None:
        worker.refuse()
    return worker


def phase(name: str, fn: Callable, *args: Any) -> Any:
    """Do a named piece of work, fn(*args): the only form in which work is timed or, in virtual time, charged.

    A phase is a leaf: no primitive inside it. Outside an engine it is a plain call.
    """
    worker = current.get()
    if worker is None:
        return fn(*args)
    if worker.busy is not None or worker.interrupt is not None or worker.engine.stop_reason is not None:
        worker.refuse()
    return worker.run_phase(worker, name, fn, args)


def note(**metrics: Any) -> None:
    """Hand metrics to whoever watches the engine (`engine.on_note`). Outside an engine it does nothing."""
    worker = current.get()
    if worker is not None:
        worker.engine.take_note(metrics)


def me() -> Me:
    """Who the current worker is, in the innermost system."""
    worker = current.get()
    if worker is None:
        raise ShoalError("no engine is running here: pass the function to make_engine(...).run")
    return Me(worker.role, worker.index, worker.epoch, worker.path or "/", worker.kernel.host)


def now() -> float:
    """Seconds since the run began, on the engine's clock: virtual when simulated, else real."""
    worker = current.get()
    if worker is None:
        raise ShoalError("no engine is running here: pass the function to make_engine(...).run")
    return worker.engine.now()
