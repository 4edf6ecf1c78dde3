# SPDX-License-Identifier: Apache-2.0
"""A child on another node as the main process sees it: with the methods of a child here, done by messages."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from shoal.engines.cluster.gathering import Said
from shoal.processes.launch import describe_exit
from shoal.processes.link import Hangup, Message
from shoal.processes.status import InEnv

if TYPE_CHECKING:
    from shoal.engines.cluster.fleet import Node


class FarLink:
    """See `processes.link.Link`. Arrays never go over it."""

    def __init__(self, child: "FarChild"):
        self._child = child
        self._come: SimpleQueue[Message | None] = SimpleQueue()
        self._delivered, self._read, self._reading = 1, 0, 1
        """messages handed to the shadow, those it is done with, and how many it has in hand: at first, the call"""
        self._answers: list[Said] | None = None
        """where answers go while a message is seen to at once"""
        self.at_once: Callable[[Message], Message | None] | None = None
        """sees to a message without the shadow's thread, which has nothing else to do; gives back what has to wait"""

    def send(self, header: dict[str, Any], data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send one message. Raises Hangup when the child has ended."""
        if self._child.ended.is_set():
            raise Hangup("the child has ended")
        message = {"op": "tell", "child": self._child.number, "told": header}
        if self._answers is None:
            self._child.node.say(message, data)
        else:
            self._answers.append((message, data))

    def receive(self) -> Message:
        """The next message; waits for it. Raises Hangup when the child has ended and all was read."""
        self._read += self._reading
        self._reading = 0
        message = self._come.get()
        if message is None:
            self._come.put(None)
            raise Hangup("the child has ended")
        self._reading = 1
        return message

    @property
    def idle(self) -> bool:
        """Whether the shadow's thread waits for a message, and none is on its way to it."""
        return self._read == self._delivered

    def hear(self, message: Message, answers: list[Said]) -> Message | None:
        """A message has come. It is done here and now, if it can be: handing every message from thread to thread would
        cost the main process more than what is done with it. Else it is given back, to be delivered to the shadow's
        thread once the answers have gone: what that says must not overtake them."""
        left: Message | None = message
        if self.at_once is not None and self.idle:
            self._answers = answers
            try:
                left = self.at_once(message)
            finally:
                self._answers = None
        self._delivered += left is not None
        return left

    def deliver(self, message: Message | None) -> None:
        """What was heard, for the shadow's thread, or None at the end."""
        self._come.put(message)

    def drain(self) -> list[Message]:
        """What has come and nobody will read."""
        left = []
        with contextlib.suppress(Empty):
            while True:
                left.append(self._come.get_nowait())
        self._come.put(None)
        return [message for message in left if message is not None]

    def close(self) -> None:
        """Nothing to give back."""


class FarPage:
    """See `processes.status.Status`: what the node reported last."""

    def __init__(self, child: "FarChild"):
        self._child = child
        self.stop = False
        self._moves, self.busy, self.env, self.frozen = 0, "launch", None, False

    def ask_to_stop(self) -> None:
        """The launcher's word."""
        if not self.stop:
            self.stop = True
            self._child.node.say({"op": "stop", "child": self._child.number})

    @property
    def moves(self) -> int:
        """Grows with what the child does, and while nothing can be known of it."""
        if not self._child.node.connected:
            self._moves += 1
        return self._moves

    def update(self, moves: int, busy: str, env: list[int] | None, frozen: bool) -> None:
        """What the node has seen."""
        self._moves, self.busy, self.frozen = self._moves + 1, busy, frozen
        self.env = None if env is None else InEnv(*env)


class FarChild:
    """See `processes.launch.Child`."""

    def __init__(self, node: "Node", number: int, who: tuple[str, str, int]):
        self.node, self.number, self.who = node, number, who
        self.link, self.page = FarLink(self), FarPage(self)
        self.pid = 0
        self.born, self.ended = threading.Event(), threading.Event()
        self.unborn: str | None = None
        self._code: int | None = None
        self._how = "ended"

    def kill(self) -> None:
        """End it at once."""
        self.node.say({"op": "kill", "child": self.number})

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None when it has not ended by then or nobody saw how."""
        self.ended.wait(seconds)
        return self._code

    def describe(self, code: int | None) -> str:
        """How it ended, in words."""
        return self._how if self.ended.is_set() else describe_exit(code)

    def is_stopped(self) -> bool:
        """Whether somebody has stopped it, when the node last looked."""
        return self.page.frozen

    def end(self, code: int | None, how: str) -> None:
        """It has ended, or its node has."""
        if not self.ended.is_set():
            self._code, self._how = code, how
            self.ended.set()
            self.born.set()
            self.link.deliver(None)

    def close(self) -> None:
        """Kill it if it still runs, and give everything back."""
        self.node.forget(self)
