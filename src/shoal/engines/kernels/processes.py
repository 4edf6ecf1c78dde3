# SPDX-License-Identifier: Apache-2.0
"""Workers as processes, in free and in fixed order: the threaded and the fixed kernel, with a child behind each worker.

A worker's thread (free) or greenlet (fixed) is the shadow of its child. In fixed order the child says which phases it
did; the shadow spends their virtual costs one by one, as if it had done them, so the order of all messages is that of
the inline engine, while children really work side by side.

One small thread watches over the children: it passes on that they are to end, kills those that don't, and those that do
not move any more.
"""

import itertools
import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from shoal.engines.faults import Stopped
from shoal.engines.kernels.base import Kernel
from shoal.engines.kernels.fixed import FixedKernel
from shoal.engines.kernels.threaded import ThreadedKernel
from shoal.engines.remote.errors import WorkerDied
from shoal.engines.remote.parcel import Parcel
from shoal.engines.remote.shadow import Shadow
from shoal.engines.wires.base import Wire
from shoal.engines.wires.locks import ChunkLocks, RangeLocks
from shoal.engines.worker import Worker
from shoal.errors import EnvironmentFault, HangError
from shoal.processes import launch
from shoal.processes.link import Hangup
from shoal.processes.memory import Pool, Segment
from shoal.processes.status import Status

ENTRY = "shoal.engines.remote.child:main"
LOOK_S = 0.04
"""seconds between looks at the children"""
GRACE_S = 2.0
"""seconds that a child has to end by itself before it is killed"""
LAUNCH_S = 60.0
"""seconds that a child may take to import what it needs, however impatient the run is"""
EXIT_S = 20.0
"""seconds to learn how a child ended, which takes long only where nobody is given a core"""
SEATED_AS = {"actor": "act", "inference": "infer", "learner": "learn"}
"""roles by the names under which a placement knows them"""
STRIKES = 3
"""deaths in a row without progress after which a worker is not started anew"""


_keys = itertools.count()
"""of wires: none comes twice, also over engines that share a cluster"""


class Processes(Kernel):
    """What both kernels of processes share."""

    wraps = True
    via = "process"
    fixed = False

    def __init__(self, engine: Any, *args: Any, **settings: Any):
        super().__init__(engine, *args, **settings)
        self.pool = Pool()
        self._wires: WeakValueDictionary[str, Wire] = WeakValueDictionary()
        self._watched: dict[Shadow, Watch] = {}
        self._finished = threading.Event()

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        self._preload()
        watcher = threading.Thread(target=self._watch_children, name="shoal children", daemon=True)
        watcher.start()
        try:
            return super().run(root, body)
        finally:
            self._finished.set()
            watcher.join()

    def _preload(self) -> None:
        """While the program still prepares."""
        launch.shared().preload(self.engine.preload)

    def call(self, worker: Worker, fn: Callable, args: tuple) -> None:
        parcel = fn if isinstance(fn, Parcel) else Parcel.of((fn, list(args)), self.pool, self.key)
        strikes = 0
        while True:
            shadow = self._launch(worker)
            try:
                shadow.serve(parcel)
                return
            except Hangup:
                strikes = 0 if shadow.handed_over else strikes + 1
                last = self.fixed or strikes >= STRIKES or (shadow.hung and shadow.page.env is not None)
                death = self._death(worker, shadow, again=strikes >= STRIKES)
                if last or isinstance(death, Stopped):
                    raise death from None
                worker.engine.record_loss(worker, "restarted", death)
                worker.epoch += 1
            finally:
                worker.shadow = None
                self._watched.pop(shadow, None)
                shadow.child.close()

    def interrupt(self, worker: Worker, error: BaseException) -> None:
        super().interrupt(worker, error)
        if worker.shadow is not None and isinstance(error, Stopped):
            worker.shadow.page.ask_to_stop()  # all else comes as the answer to the child's next question

    def wrap(self, worker: Worker, item: Any) -> Any:
        return item if isinstance(item, Parcel) else Parcel.of(item, self.pool, self.key)

    def unwrap(self, worker: Worker, item: Any, shared: bool = False) -> Any:
        return item if worker.shadow is not None else item.open(self.wire, writable=not shared)

    def allocate(self, size: int) -> tuple[Any, Any]:
        segment = Segment.create(size, "a shared vector")
        return segment.map, segment

    def key(self, value: Any) -> str | None:
        """The key under which children know a wire; None for anything else."""
        if not isinstance(value, Wire):
            return None
        if value.key is None:
            value.key = f"{value.kind}/{next(_keys)}"
            self._wires[value.key] = value
        return value.key

    def wire(self, key: str) -> Wire:
        """The wire of a key."""
        return self._wires[key]

    def spend(self, worker: Worker, name: str) -> None:
        """A child has done a phase: let its virtual time pass."""

    def _launch(self, worker: Worker) -> Shadow:
        worker.check()
        header = {
            "path": worker.path,
            "role": worker.role,
            "index": worker.index,
            "epoch": worker.epoch,
            "roles": [[path, list(role)] for path, role in worker.roles.items()],
            "slow": worker.engine.slowdowns,
            "now": worker.engine.now(),
            "fixed": self.fixed,
            "host": self.host,
        }
        shadow = self._shadow(worker, header)
        self._watched[shadow] = Watch(worker)
        worker.shadow = shadow
        if isinstance(worker.interrupt, Stopped):
            shadow.page.ask_to_stop()
        return shadow

    def _shadow(self, worker: Worker, header: dict[str, Any]) -> Shadow:
        """A new child's: one of the shared server, or of a new one where that has just been killed."""
        page = Status.create()
        child = launch.child_of_shared(ENTRY, header, [page.segment.descriptor], seat_of(worker), self.engine.preload)
        page.segment.close()
        worker.engine.born(worker, child.pid)
        return Shadow(self, worker, child, page)

    def _death(self, worker: Worker, shadow: Shadow, *, again: bool) -> BaseException:
        """Why a child ended without a word: whose fault, and where. Being killed from outside is nobody's here, unless
        it happens again and again."""
        code = shadow.child.wait(EXIT_S)
        if shadow.page.stop or worker.engine.stop_reason is not None:
            return Stopped("its system was left")
        page, env = shadow.page, shadow.page.env
        who = f"process {shadow.child.pid} of {worker}"
        how = how_it_ended(shadow, code, worker.engine.hang_seconds)
        doing = f" in phase {page.busy!r}" if page.busy else ""
        if env is None:
            kind = HangError if shadow.hung else WorkerDied
            return kind(f"{who} {how}{doing}; look at what it does there, or give it more memory or time")
        where = f"environment {env.index} (seed {env.seed}, step {env.step})"
        killed = code in (-signal.SIGKILL, None) and not shadow.hung and not again
        if shadow.stopped or killed:
            why = "stopped it" if shadow.stopped else "killed it, or memory ran out"
            return WorkerDied(f"{who} {how}{doing}, in {where}; somebody {why}")
        return EnvironmentFault(f"{where}: {who} {how} inside its code; fix the environment")

    def _watch_children(self) -> None:
        while not self._finished.wait(LOOK_S):
            for shadow, watch in list(self._watched.items()):
                watch.look(shadow)


def seat_of(worker: Worker) -> tuple[str | None, int]:
    """Role and number by which a placement seats a worker."""
    return SEATED_AS.get(worker.role), worker.index


def how_it_ended(shadow: Shadow, code: int | None, hang_seconds: float) -> str:
    """In words: by itself with this code, or for doing nothing."""
    if shadow.hung or shadow.stopped:
        return f"{'was stopped, ' if shadow.stopped else ''}did nothing for {hang_seconds:g} s and was ended"
    return shadow.child.describe(code)


class Watch:
    """What is known of one child's movements."""

    def __init__(self, worker: Worker):
        self._worker = worker
        self._moves, self._since = -1, monotonic()
        self._stopped: float | None = None

    def look(self, shadow: Shadow) -> None:
        """Ask it to stop if it is to, and kill it if it neither stops nor moves."""
        worker, now = self._worker, monotonic()
        if shadow.page.stop or worker.engine.stop_reason is not None:
            if self._stopped is None:
                self._stopped = now
                shadow.page.ask_to_stop()
            elif now - self._stopped > GRACE_S:
                shadow.child.kill()
            return
        moves = shadow.page.moves
        if moves != self._moves or not shadow.listening:
            self._moves, self._since = moves, now
        elif now - self._since > max(worker.engine.hang_seconds, LAUNCH_S if shadow.page.busy == "launch" else 0.0):
            if not shadow.hung and not shadow.stopped:  # once: what was killed does not look stopped any more
                shadow.stopped = shadow.child.is_stopped()
                shadow.hung = not shadow.stopped
            shadow.child.kill()


class FreeProcessKernel(Processes, ThreadedKernel):
    """Processes in free order."""

    def chunk_locks(self, segment: Any, count: int) -> ChunkLocks:
        return RangeLocks(segment.descriptor)


class FixedProcessKernel(Processes, FixedKernel):
    """Processes in fixed order: phases of the root worker on its lane, all others in children."""

    fixed = True

    def spend(self, worker: Worker, name: str) -> None:
        self._queue(worker, self.virtual_now + self._cost(name, ()) * worker.slow)
        self._next().switch()
        worker.check()
