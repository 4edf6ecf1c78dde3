# SPDX-License-Identifier: Apache-2.0
"""What runs in a child: one worker's function, with an ambient worker whose primitives go to its shadow."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter, sleep
from typing import Any

from shoal.engines.remote.desk import Desk
from shoal.engines.remote.errors import encode
from shoal.engines.remote.handles import ConditionHandle, SystemHandle
from shoal.engines.worker import Worker, current
from shoal.processes import status
from shoal.processes.link import Hangup, Link
from shoal.processes.status import Status


class ChildEngine:
    """What a worker asks of its engine, answered here."""

    def __init__(self, desk: Desk, page: Status, header: dict[str, Any]):
        self._desk, self._page, self._slow = desk, page, header["slow"]
        self._began = perf_counter() - header["now"]

    @property
    def stop_reason(self) -> str | None:
        """Not None when this worker is asked to end."""
        return "its system was left or the engine was stopped" if self._page.stop else None

    def slowdown(self, role: str, index: int) -> float:
        """Factor on a worker's phases."""
        return self._slow.get(f"{role}/{index}", self._slow.get(role, 1.0))

    def take_note(self, metrics: dict[str, Any]) -> None:
        """Pass on metrics, with the next message."""
        self._desk.note(metrics)

    def now(self) -> float:
        """Seconds since the run began."""
        return perf_counter() - self._began


class ChildKernel:
    """What primitives ask of a kernel, in a child."""

    via = "process"
    charges = False

    def __init__(self, desk: Desk, page: Status, host: str):
        self._desk, self._page, self.host = desk, page, host

    def run_phase(self, worker: Worker, name: str, fn: Callable, args: tuple) -> Any:
        """Call fn(*args) as this worker's phase."""
        worker.busy = name
        self._page.begin(name)
        began = perf_counter()
        try:
            return fn(*args)
        finally:
            if worker.slow != 1.0:
                sleep((perf_counter() - began) * (worker.slow - 1.0))
            worker.busy = None
            self._page.end()
            self._desk.did(name, began)

    @contextmanager
    def opens(self, body: Worker, name: str, role: str) -> Iterator[SystemHandle]:
        """A system whose body is this child; it lives in the main process."""
        path = self._desk.ask("open", name=name, role=role)
        body.enter(path, role)
        try:
            try:
                yield SystemHandle(path, self._desk)
            finally:
                body.leave()
        except BaseException as error:
            self._desk.ask("leave", error=encode(error))  # raises what outweighs it
            raise
        self._desk.ask("leave", error=None)

    def selects(self, conditions: tuple[ConditionHandle, ...]) -> int:
        """Position of a condition that is ready."""
        return self._desk.ask("select", conditions=[condition.place for condition in conditions])


def main(link: Link, header: dict[str, Any], descriptors: list[int], _server: Link) -> None:
    """The entry of every child of the engine: take the call from the link, run it, say how it ended."""
    page = status.adopt(descriptors[0])
    secret = bytes.fromhex(header["secret"]) if "secret" in header else None
    desk = Desk(link, fixed=header["fixed"], secret=secret)
    error: BaseException | None = None
    fn = args = None
    try:
        page.begin("launch")
        fn, args = desk.answer()
        page.end()
        kernel = ChildKernel(desk, page, header["host"])
        worker = Worker(ChildEngine(desk, page, header), kernel, {p: tuple(r) for p, r in header["roles"]})
        worker.epoch = header["epoch"]
        worker.become(header["path"], header["role"], header["index"])
        current.set(worker)
        worker.check()
        fn(worker.index, *args)
    except Hangup:
        raise
    except BaseException as caught:  # noqa: BLE001 told to the shadow, which raises it there
        error = caught
        if isinstance(caught, KeyboardInterrupt | SystemExit):
            error = RuntimeError(f"{type(caught).__name__} {caught}".strip())
    del fn, args  # what they hold on loan goes back with the last message
    for stream in (sys.stdout, sys.stderr):  # the shadow does not wait any longer than for that message
        with suppress(Exception):
            stream.flush()
    desk.end(None if error is None else encode(error))
