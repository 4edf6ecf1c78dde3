# SPDX-License-Identifier: Apache-2.0
"""The nodes of a run as its main process sees them: who is there, what they say, and children launched on them."""

import contextlib
import itertools
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import shoal
from shoal.engines.cluster.far import FarChild
from shoal.engines.cluster.frames import Frame, Listener, Stream
from shoal.engines.cluster.gathering import Said, apart, together
from shoal.engines.cluster.lasting import Lasting
from shoal.engines.cluster.shelf import Shelf
from shoal.engines.faults import Lost
from shoal.errors import ConfigError, ShoalError
from shoal.processes.link import Message

TICK_S = 0.05
"""seconds between words to a node of what it may forget"""
BIRTH_S = 90.0
"""seconds that a node may take to start a child"""
SILENCE_S = 10.0
"""seconds without a word after which a connection is taken for dead"""
GIVEN_UP_S = 130.0
"""seconds out of reach after which a node is taken for lost, whatever Ray says of its machine: a little more than an
agent goes on without the main process, so no worker of it runs any more"""
BYE_S = 2.0
"""seconds that nodes have to hang up"""


class NodeLost(Lost):
    """A node is gone; what ran there runs no more."""


class Node:
    """One machine's agent. Made before it dials for the first time."""

    def __init__(self, name: str, fleet: "Fleet"):
        self.name, self._fleet = name, fleet
        self.there = threading.Event()
        """set once it has dialled, or is gone"""
        self.shelf: tuple[str, int] | None = None
        self.shards: tuple[str, int] | None = None
        """addresses of its shelf, and of its shard server"""
        self.lost: str | None = None
        """why it is gone"""
        self.talk = Lasting()
        self.newest: Stream | None = None
        """its last connection; those before are of no use"""
        self.reached = time.monotonic()
        """when it was last seen connected"""
        self.door = threading.Lock()
        """held by the thread that receives: the next one waits until it has done what came over the last connection"""
        self.children: dict[int, FarChild] = {}
        self.told_wires: set[str] = set()
        """those of which it knows that their items are for the main process"""
        self._dropped: deque[int] = deque()

    @property
    def connected(self) -> bool:
        """Whether it can be spoken to now."""
        return self.talk.connected

    def say(self, header: dict[str, Any], data: bytes = b"") -> None:
        """Send it a message, with what it may forget; nothing for one that is gone."""
        if self.lost is None:
            if self._dropped:
                header = {**header, "drop": self._take_dropped()}
            self.talk.send(header, data)

    def drop(self, key: int) -> None:
        """What lies there under this key is not needed any more. Takes no lock: memory management calls this."""
        self._dropped.append(key)

    def tick(self) -> None:
        """Now and then: what it may forget, and a sign of life."""
        if self.connected:
            self.reached = time.monotonic()
        if not self.talk.busy:  # one node's full connection must not silence the others'
            self.say({"op": "drop"})

    def forget(self, child: FarChild) -> None:
        """A child that nobody speaks to any more."""
        self.children.pop(child.number, None)
        for message in child.link.drain():
            self._leave(message.header)
        self.say({"op": "close", "child": child.number})

    def hear(self, frame: Frame) -> None:
        """A message of its agent: of the node, of one of its children, or of several, who are answered together."""
        answers: list[Said] = []
        later: list[Callable[[], None]] = []
        several = frame.header["op"] == "messages"
        for header, data in apart(frame.header, frame.data) if several else [(frame.header, frame.data)]:
            self._hear_one(header, data, answers, later)
        if several or answers:
            self.say(*together("answers", answers))
        for hand_on in later:  # whose own answers must not overtake these
            hand_on()

    def _hear_one(
        self, header: dict[str, Any], data: bytes, answers: list[Said], later: list[Callable[[], None]]
    ) -> None:
        if "child" not in header:
            getattr(self, f"_{header['op']}")(header)
            return
        child = self.children.get(header["child"])
        if child is None:  # nobody speaks to it any more
            self._leave(header.get("said", {}))
            return
        if header["op"] == "said":
            left = child.link.hear(Message(header["said"], data, []), answers)
            if left is not None:
                later.append(partial(child.link.deliver, left))
        elif header["op"] == "born":
            child.pid = header["pid"]
            child.born.set()
        elif header["op"] == "unborn":
            child.unborn = header["why"]
            child.end(None, "was never started")
        elif header["op"] == "ended":
            child.page.update(*header["page"])
            later.append(partial(child.end, header["code"], header["how"]))

    def _pages(self, header: dict[str, Any]) -> None:
        for number, page in header["pages"].items():
            if int(number) in self.children:
                self.children[int(number)].page.update(*page)

    def _note(self, header: dict[str, Any]) -> None:
        self._fleet.note(f"{self.name}: {header['text']}")

    def _printed(self, header: dict[str, Any]) -> None:
        stream = sys.stdout if header["to"] == 1 else sys.stderr
        stream.write(f"[{self.name}] {header['line']}\n")
        stream.flush()

    def _leave(self, said: dict[str, Any]) -> None:
        """What a child said that nobody listens to: what it put on the shelf is not needed."""
        if "lies" in said:
            self.drop(said["lies"])

    def _take_dropped(self) -> list[int]:
        taken = []
        with contextlib.suppress(IndexError):  # others take, too
            while True:
                taken.append(self._dropped.popleft())
        return taken


class Fleet:
    """All nodes of one run.

    Args:
      host: address to listen on.
      compress: see `Squeeze`.
    """

    def __init__(self, host: str, note: Callable[[str], None] = lambda _: None, compress: str = "auto"):
        self.secret = secrets.token_bytes(32)
        self.note = note
        self.nodes: dict[str, Node] = {}
        self._numbers = itertools.count(1)
        self._modules: list[str] = []
        self._turn = threading.Lock()
        self._gone: list[tuple[str, int]] = []
        """shelves of nodes that will not come back"""
        self._over = threading.Event()
        self._told_lost: list[Callable[[Node], None]] = []
        self.shelf = Shelf(host, self.secret, compress)
        self._listener = Listener(host, self.secret, self._greet, "cluster node")
        self.address = self._listener.address
        self._ticker = threading.Thread(target=self._tick, name="cluster nodes", daemon=True)
        self._ticker.start()

    def expect(self, name: str) -> Node:
        """A node whose agent will dial."""
        node = self.nodes[name] = Node(name, self)
        return node

    def await_nodes(self, seconds: float) -> None:
        """Until every expected node has dialled. Raises NodeLost for one that does not."""
        until = time.monotonic() + seconds
        for node in list(self.nodes.values()):
            if not node.there.wait(max(0.0, until - time.monotonic())):
                raise NodeLost(
                    f"node {node.name} did not reach {self.address[0]}:{self.address[1]} within {seconds:g} s; let its "
                    "network reach this address, or give another with --node-ip"
                )

    @property
    def live(self) -> list[Node]:
        """Nodes that are there."""
        return [node for node in list(self.nodes.values()) if node.lost is None and node.there.is_set()]

    def at(self, address: tuple[str, int]) -> Node | None:
        """The node whose shelf has this address."""
        return next((node for node in list(self.nodes.values()) if node.shelf == address), None)

    def preload(self, modules: Any) -> None:
        """Have nodes import modules for the children to come."""
        self._modules = list(modules)
        for node in self.live:
            node.say({"op": "preload", "modules": self._modules})

    def launch(self, node: Node, header: dict[str, Any], seat: tuple[str | None, int]) -> FarChild:
        """A new child on a node, for the worker that the header names.

        Raises NodeLost, ShoalError where the node gives none.
        """
        with self._turn:
            child = FarChild(node, next(self._numbers), (header["path"], header["role"], header["index"]))
            node.children[child.number] = child
        if node.lost is not None:
            raise NodeLost(f"node {node.name} {node.lost}")
        node.say({"op": "launch", "child": child.number, "header": header, "seat": list(seat)})
        if not child.born.wait(BIRTH_S) or child.unborn is not None:
            child.close()
            raise ShoalError(f"node {node.name} started no worker: {child.unborn or f'nothing for {BIRTH_S:g} s'}")
        if node.lost is not None:
            raise NodeLost(f"node {node.name} {node.lost}")
        return child

    def lose(self, name: str, why: str) -> None:
        """A node will not come back: its children have ended, and what lay there is lost."""
        node = self.nodes[name]
        with self._turn:
            if node.lost is not None:
                return
            node.lost = why
        node.talk.cut()
        node.there.set()
        self.note(f"node {name} {why}")
        if node.shelf is not None:
            self._gone.append(node.shelf)
            self.shelf.forget(node.shelf)
            for other in self.live:
                other.say({"op": "forget", "shelf": list(node.shelf)})
        for tell in list(self._told_lost):
            tell(node)
        for child in list(node.children.values()):
            child.end(None, f"ended with its node {name}, which {why}")

    def tell_lost(self, tell: Callable[[Node], None], *, still: bool = True) -> None:
        """Call this with every node that is lost from now on, or no more."""
        if still:
            self._told_lost.append(tell)
        else:
            self._told_lost.remove(tell)

    def close(self) -> None:
        """Say goodbye to all nodes and end what was theirs."""
        for node in self.live:
            node.say({"op": "bye"})
        self._over.set()
        self._ticker.join()
        until = time.monotonic() + BYE_S
        while any(node.connected for node in self.live) and time.monotonic() < until:
            time.sleep(TICK_S / 10)  # who hangs up first may spoil what it has said
        for node in list(self.nodes.values()):
            for child in list(node.children.values()):
                child.end(None, "ended with the run")
        self._listener.close()
        self.shelf.close()

    def _greet(self, stream: Stream) -> None:
        """A node's agent has dialled, for the first time or again."""
        stream.expect_within(SILENCE_S)
        hello = stream.receive().header
        node = self.nodes.get(hello["name"])
        if node is None:
            stream.send({"over": "nobody expects it"})
            return
        if hello["version"] != shoal.__version__:
            self.lose(
                node.name, f"has shoal {hello['version']} and this is {shoal.__version__}; install the same on both"
            )
        with self._turn:
            before, node.newest = node.newest, stream
        if before is not None:
            before.cut()
        with node.door:
            if node.newest is stream:
                self._converse(node, stream, hello)

    def _converse(self, node: Node, stream: Stream, hello: dict[str, Any]) -> None:
        """With a node, over one connection."""
        if node.lost is not None:
            stream.send({"over": node.lost})
            return
        node.shelf, node.shards = tuple(hello["shelf"]), tuple(hello["shards"])
        stream.send({"got": node.talk.received, "compress": self.shelf.compress})
        node.talk.attach(stream, hello["got"])
        if node.talk.connections > 1:
            sent = f"{node.talk.sent_again} messages sent again so far"
            self.note(f"node {node.name} is connected anew: connection {node.talk.connections}, {sent}")
        try:
            if not node.there.is_set():
                for shelf in list(self._gone):
                    node.say({"op": "forget", "shelf": list(shelf)})
                node.say({"op": "preload", "modules": self._modules})
            node.there.set()
            while True:
                frame = stream.receive()
                if node.talk.accept(frame):
                    node.hear(frame)
        finally:
            node.talk.detach(stream)

    def _tick(self) -> None:
        while not self._over.wait(TICK_S):
            for node in self.live:
                node.tick()
                if time.monotonic() - node.reached > GIVEN_UP_S:
                    why = f"is out of reach for {GIVEN_UP_S:g} s"
                    threading.Thread(target=self.lose, args=(node.name, why), name="cluster loss", daemon=True).start()


def require_nodes(fleet: Fleet) -> list[Node]:
    """The nodes that are there. Raises ConfigError where none is."""
    if not fleet.live:
        raise ConfigError("no node of the cluster is left; start one with `ray start --address=...`")
    return fleet.live
