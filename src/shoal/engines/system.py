# SPDX-License-Identifier: Apache-2.0
"""A system: the scope that names the role of its body and owns workers and wires.

Leaving it, for whatever reason, cancels its workers and waits until they have ended, so no worker outlives the lines
that need it, and workers are written as `while True`. Systems nest: a worker may be the body of one, whose path then
is /outer/inner. On processes, a spawned function and its arguments must be importable and plain records; wires cross as
handles.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from shoal.engines.faults import Ended, LearnerLost, RoleFailed, Stopped, one_line
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.numbers import Rule
from shoal.engines.wires.reduction import Reduction
from shoal.engines.wires.service import Service
from shoal.engines.wires.store import Store
from shoal.engines.wires.vector import Vector
from shoal.engines.worker import Group, Worker, here
from shoal.errors import ConfigError, HangError

OnFailure = Literal["fail", "restart", "drop"]


class System:
    """What `with system(...)` gives. Made by it only."""

    def __init__(self, path: str, body: Worker):
        self.path = path
        self.body = body
        self.kernel = body.kernel
        self.ledger = body.engine.ledger
        self.failure: BaseException | None = None
        self.closing = False
        self._groups: dict[str, Group] = {}
        self._workers: list[Worker] = []
        self._wires: list[Any] = []

    def spawn(
        self, role: str, count: int, fn: Any, *args: Any, on_failure: OnFailure = "fail", budget: int = 3
    ) -> None:
        """Start `count` workers of a role, each calling fn(index, *args). Indices go on from those of the role so far.

        Args:
          on_failure: what happens when fn raises. "fail" ends the system with RoleFailed; "restart" calls it anew
            with epoch + 1, at most `budget` times each, then fails; "drop" goes on without that worker.
        """
        if here() is not self.body:
            raise ConfigError(f"only the body of {self.path} can spawn its workers; open a system of your own")
        if on_failure not in ("fail", "restart", "drop"):
            raise ConfigError(f"on_failure={on_failure!r} is unknown: use fail, restart or drop")
        group = self.group(role)
        self.kernel.reserve(self.path, role, group.started, count)
        for _ in range(count):
            worker = Worker(self.body.engine, self.kernel, dict(self.body.roles))
            with self.kernel.lock:
                worker.become(self.path, role, group.started)
                worker.groups = [group]
                group.started += 1
                group.live += 1
                self._workers.append(worker)
            self.body.engine.admit(worker)
            self.kernel.start(worker, partial(self._live, worker, fn, args, on_failure, budget))

    def channel(  # noqa: PLR0913 one declaration says all about a wire
        self,
        message: str,
        source: str,
        target: str,
        capacity: int,
        when_full: Literal["block", "drop_oldest"] = "block",
        versions: Store | Vector | None = None,
        max_lag: int | None = None,
    ) -> Channel:
        """A bounded queue of messages. See Channel."""
        return self._own(Channel(self, message, source, target, capacity, when_full, versions, max_lag))

    def store(
        self, message: str, owner: str, value: Any, version: int = 0, keep: int = 1, target: str | None = None
    ) -> Store:
        """A versioned value that its owner publishes and anybody pulls; the last `keep` versions can be had."""
        return self._own(Store(self, message, owner, value, version, keep, target))

    def service(self, ask: str, answer: str, source: str, target: str, batch: int, deadline_s: float) -> Service:
        """Requests from `source` to `target`, taken in batches, and their answers."""
        return self._own(Service(self, ask, answer, source, target, batch, deadline_s))

    def vector(  # noqa: PLR0913 one declaration says all about a wire
        self,
        owner: str,
        init: Any,
        rule: Rule,
        shards: int = 1,
        moments: Any = 0,
        source: str | None = None,
        max_lag: int | None = None,
        locked: bool = False,
        version: int = 0,
        samples: int = 0,
    ) -> Vector:
        """Shared flat params with their update rule, pulled from and pushed to by anybody. See Vector."""
        args = (self, owner, init, rule, shards, moments, source, max_lag, locked, version, samples)
        return self._own(self.kernel.vector(*args))

    def reduction(  # noqa: PLR0913 one declaration says all about a wire
        self,
        message: str,
        role: str,
        members: int,
        like: Any,
        via: Literal["device", "network"] = "device",
        made: int = 0,
    ) -> Reduction:
        """Sums over a role's workers that compiled code makes: only counted. See Reduction."""
        return self._own(Reduction(self, message, role, members, like, via, made))

    def group(self, role: str) -> Group:
        """The workers of a role, made when first spoken of."""
        return self._groups.setdefault(role, Group(role))

    def _own(self, wire: Any) -> Any:
        if here() is not self.body:
            raise ConfigError(f"only the body of {self.path} can declare its wires; open a system of your own")
        self._wires.append(wire)
        return wire

    def _live(self, worker: Worker, fn: Callable, args: tuple, on_failure: OnFailure, budget: int) -> None:
        """A worker's life, on its own greenlet or thread. Never raises."""
        try:
            while True:
                try:
                    worker.check()
                    self.kernel.call(worker, fn, args)
                    return
                except (Stopped, Ended):
                    return
                except BaseException as error:  # noqa: BLE001 the body receives it
                    if not self._survives(worker, error, on_failure, budget):
                        return
        finally:
            self._ended(worker)

    def _survives(self, worker: Worker, error: BaseException, on_failure: OnFailure, budget: int) -> bool:
        """Act on a worker's error; True when it is to be called again."""
        engine = self.body.engine
        if self.closing and isinstance(error, LearnerLost):  # by this end itself, or it is what brought it about
            return False
        if self.closing:
            warnings.warn(f"{worker} raised while it was being ended: {one_line(error)}", RuntimeWarning, stacklevel=2)
            return False
        if isinstance(error, Exception) and on_failure == "drop":
            engine.record_loss(worker, "dropped", error)
            return False
        if isinstance(error, Exception) and on_failure == "restart" and worker.epoch < budget:
            engine.record_loss(worker, "restarted", error)
            worker.epoch += 1
            return True
        if isinstance(error, Exception):  # all else, such as KeyboardInterrupt, as it is
            failure = RoleFailed(self.path, worker.role, worker.index, error)
            failure.__cause__ = error
            self.fail(failure)
        else:
            self.fail(error)
        return False

    def fail(self, failure: BaseException) -> None:
        """The body receives this, if it is the first failure."""
        with self.kernel.lock:
            if self.failure is None:
                self.failure = failure
                self.kernel.interrupt(self.body, failure)

    def _ended(self, worker: Worker) -> None:
        with self.kernel.lock:
            worker.ended = True
            group = worker.groups[0]
            group.live -= 1
            group.settle()
            if group.ended:
                for wire in self._wires:
                    wire.role_ended(group.role)
            if self.closing:
                self.kernel.wake(self.body)
            self.kernel.retire(worker)
        self.body.engine.retire(worker)

    def close(self) -> None:
        """Cancel all workers and wait for them."""
        with self.kernel.lock:
            self.closing = True
            for worker in self._workers:
                if not worker.ended:
                    self.kernel.interrupt(worker, Stopped(f"{self.path} was left"))
        hung = self.kernel.join(self.body, self._workers)
        for wire in self._wires:
            wire.close()
        if hung:
            names = "; ".join(f"{w} in {f'phase {w.busy!r}' if w.busy else 'its own code'}" for w in hung)
            seconds = self.body.engine.join_seconds
            raise HangError(f"{self.path} was left, but {names} would not end within {seconds:g} s: shorten that work")


@contextmanager
def system(name: str, role: str) -> Iterator[System]:
    """Open a system whose body, the current worker, has this role. Leaving it ends all its workers.

    Raises RoleFailed when one of them raised, HangError when one would not end.
    """
    body = here()
    if body.kernel.opens is not None:
        with body.kernel.opens(body, name, role) as elsewhere:
            yield elsewhere
        return
    scope = System(f"{body.path}/{name}", body)
    group = scope.group(role)
    group.started = group.live = 1
    body.enter(scope.path, role, group)
    try:
        try:
            yield scope
        finally:
            try:
                scope.close()
            finally:
                body.leave()
    except Exception as error:
        _settle(scope, error)
        raise
    except BaseException:
        _forget(scope)
        raise
    _settle(scope, None)


def _forget(scope: System) -> None:
    if scope.failure is not None and scope.body.interrupt is scope.failure:
        scope.body.interrupt = None


def _settle(scope: System, error: Exception | None) -> None:
    """A failure of the scope's own outweighs a normal end and what followed from it; the body's own error stays."""
    _forget(scope)
    if scope.failure is not None and (error is None or isinstance(error, Ended)):
        raise scope.failure
