# SPDX-License-Identifier: Apache-2.0
"""What a child holds in place of wires and systems: the same methods, done by its shadow in the main process.

A put does not wait for its shadow, which does it before it answers the child's next question: soon enough for
everybody.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shoal.engines.faults import MessageLost
from shoal.engines.wires.service import Request
from shoal.engines.worker import here

if TYPE_CHECKING:
    from shoal.engines.remote.desk import Desk

NOTHING = object()
"""no item, where None is one"""


class Handle:
    """Of one wire, by its key."""

    def __init__(self, key: str, desk: "Desk"):
        self.key, self._desk = key, desk

    def _ask(self, op: str, item: Any = NOTHING, **fields: Any) -> Any:
        here()
        return self._desk.ask(op, item, wire=self.key, **fields)

    def _tell(self, op: str, item: Any = NOTHING, **fields: Any) -> None:
        here()
        self._desk.tell(op, item, wire=self.key, **fields)


class ConditionHandle:
    """Of one condition of a channel."""

    def __init__(self, key: str, name: str):
        self.place = [key, name]


class ChannelHandle(Handle):
    """See `wires.channel.Channel`."""

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        self.can_get, self.can_put = ConditionHandle(key, "can_get"), ConditionHandle(key, "can_put")

    def put(self, item: Any, version: int | None = None) -> None:
        """Hand an item on."""
        self._tell("put", item, version=version)

    def get(self, n: int = 1, by_sender: bool = False) -> list[Any]:
        """The next n items."""
        return self._many("get", self._ask("get", n=n, by_sender=by_sender))

    def _many(self, _op: str, count: int) -> list[Any]:
        return [self._desk.answer() for _ in range(count)]

    @property
    def dropped(self) -> int:
        """Items thrown away when full."""
        return self._ask("attribute", name="dropped")

    @property
    def stale(self) -> int:
        """Items thrown away as too old."""
        return self._ask("attribute", name="stale")


class StoreHandle(Handle):
    """See `wires.store.Store`."""

    def publish(self, value: Any) -> int:
        """Make this the latest value."""
        return self._ask("publish", value)

    def pull(self, at_least: int = 0, behind: int = 0) -> tuple[Any, int]:
        """The latest (value, version)."""
        version = self._ask("pull", at_least=at_least, behind=behind)
        return self._desk.answer(), version

    @property
    def version(self) -> int:
        """Of the latest value."""
        return self._ask("attribute", name="version")


class ServiceHandle(Handle):
    """See `wires.service.Service`."""

    def call(self, item: Any) -> Any:
        """Ask and wait for the answer."""
        return self._ask("call", item)

    def send(self, item: Any) -> int:
        """Ask; returns the ticket."""
        return self._ask("send", item)

    def result(self, ticket: int) -> Any:
        """The answer to a request."""
        return self._ask("result", ticket=ticket)

    def take(self) -> list[Request]:
        """The next batch of requests."""
        taken = []
        while not taken:
            for head in self._ask("take"):
                with suppress(MessageLost):  # who asked is gone with its node
                    taken.append(Request(self._desk.answer(), *head))
        return taken

    def reply(self, requests: list[Request], answers: Any) -> None:
        """Answer requests, in their order."""
        self._tell("reply", list(answers), tickets=[[r.index, r.epoch, r.ticket] for r in requests])


class ReductionHandle(Handle):
    """See `wires.reduction.Reduction`."""

    def reached(self, made: int) -> None:
        """So many sums were made in all."""
        self._ask("reached_sums", made=made)


class SystemHandle:
    """See `system.System`."""

    def __init__(self, path: str, desk: "Desk"):
        self.path, self._desk = path, desk

    def spawn(self, role: str, count: int, fn: Any, *args: Any, on_failure: str = "fail", budget: int = 3) -> None:
        """Start workers of a role."""
        here()
        self._desk.ask("spawn", (fn, list(args)), role=role, count=count, on_failure=on_failure, budget=budget)

    def channel(self, *args: Any, **settings: Any) -> Any:
        """A bounded queue of messages."""
        return self._make("channel", args, settings)

    def store(self, *args: Any, **settings: Any) -> Any:
        """A versioned value."""
        return self._make("store", args, settings)

    def service(self, *args: Any, **settings: Any) -> Any:
        """Requests and answers."""
        return self._make("service", args, settings)

    def vector(self, *args: Any, **settings: Any) -> Any:
        """Shared flat params."""
        return self._make("vector", args, settings)

    def reduction(self, *args: Any, **settings: Any) -> Any:
        """Sums over a role's workers that compiled code makes."""
        return self._make("reduction", args, settings)

    def _make(self, kind: str, args: tuple, settings: dict[str, Any]) -> Any:
        here()
        return self._desk.ask("make", (list(args), settings), kind=kind)


def handle_of(key: str, desk: "Desk") -> Handle:
    """A new handle for a wire's key, such as "channel/3"."""
    from shoal.engines.remote.vector import VectorHandle

    kinds = {"channel": ChannelHandle, "store": StoreHandle, "service": ServiceHandle, "vector": VectorHandle}
    kinds["reduction"] = ReductionHandle
    return kinds[key.partition("/")[0]](key, desk)
