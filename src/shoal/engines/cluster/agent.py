# SPDX-License-Identifier: Apache-2.0
"""A node's agent: starts the workers of its node as children of a fork server, and speaks for them.

One process a node. It dials the main process and dials again when the connection breaks; it ends when told to, or when
the main process stays out of reach. Its children end with it.
"""

import os
import sys
import threading
import time
from typing import Any

import shoal
from shoal.engines.cluster.attendant import Attendant
from shoal.engines.cluster.frames import Absent, Cut, Frame, Refused, dial
from shoal.engines.cluster.gathering import Gathering, apart
from shoal.engines.cluster.lasting import Lasting
from shoal.engines.cluster.shards import ShardServer
from shoal.engines.cluster.shelf import Shelf
from shoal.processes import launch
from shoal.processes.status import Status

ENTRY = "shoal.engines.remote.child:main"
REPORT_S = 0.25
"""seconds between reports on children"""
AGAIN_S = 0.2
"""seconds between tries to reach the main process"""
SILENCE_S = 10.0
"""seconds without a word after which a connection is taken for dead and made anew"""
GIVE_UP_S = 120.0
"""seconds without the main process after which the node's part of the run is over"""
ORPHANED_S = 5.0
"""seconds after which it is over where the main process' machine answers, but nobody listens there any more"""


class Agent:
    """Of one node.

    Args:
      main: address of the main process.
      host: this node's own address, to listen on.
      path: the main process's module path, with its working directory first.
    """

    def __init__(self, name: str, main: tuple[str, int], secret: bytes, host: str, path: list[str]):
        self._name, self._main, self._secret, self._host = name, main, secret, host
        sys.path[:] = [*path, *(p for p in sys.path if p not in path)]
        self._shelf, self._shards = Shelf(host, secret), ShardServer(host, secret)
        self._talk = Lasting()
        self._gathering = Gathering(self._talk.send)
        self._children: dict[int, Attendant] = {}
        self._for_main: set[str] = set()
        self._over = threading.Event()
        self._modules: list[str] = []
        self._heard = self._reached = time.monotonic()
        self._closed: set[int] = set()
        """children that nobody speaks to any more"""

    def run(self) -> None:
        """Until the main process says goodbye or is gone."""
        threading.Thread(target=self._report, name="cluster reports", daemon=True).start()
        for descriptor in (1, 2):
            self._pass_on(descriptor)
        try:
            while not self._over.is_set():
                try:
                    self._converse()
                except Refused:  # another run has got its port
                    return
                except Absent:
                    self._give_up(time.monotonic() - self._reached > ORPHANED_S)
                except Cut:  # packets vanish, or the connection broke: it may be there all the same
                    self._reached = time.monotonic()
                self._give_up(time.monotonic() - self._heard > GIVE_UP_S)
                self._over.wait(AGAIN_S)
        finally:
            self._over.set()
            for attendant in list(self._children.values()):
                attendant.close()
            self._shelf.close()
            self._shards.close()

    def _give_up(self, lost: bool) -> None:
        if lost:
            self._over.set()

    def _converse(self) -> None:
        """Over one connection."""
        stream = dial(self._main, self._secret)
        try:
            stream.expect_within(SILENCE_S)
            stream.send({"name": self._name, "got": self._talk.received, **self._facts()})
            welcome = stream.receive().header
            if "over" in welcome:
                self._over.set()
                return
            self._shelf.compress = welcome["compress"]
            self._talk.attach(stream, welcome["got"])
            while not self._over.is_set():
                self._heard = time.monotonic()
                frame = stream.receive()
                if self._talk.accept(frame):
                    self._do(frame)
        finally:
            self._talk.detach(stream)
            stream.close()

    def _pass_on(self, descriptor: int) -> None:
        """What this node's workers print goes to where the main process prints."""
        read, write = os.pipe()
        os.dup2(write, descriptor)
        os.close(write)

        def forward() -> None:
            with open(read, errors="replace") as lines:
                for line in lines:
                    self._talk.send({"op": "printed", "to": descriptor, "line": line.rstrip("\n")})

        threading.Thread(target=forward, name="cluster output", daemon=True).start()

    def _facts(self) -> dict[str, Any]:
        addresses = {"shelf": self._shelf.address, "shards": self._shards.address}
        return {**addresses, "pid": os.getpid(), "version": shoal.__version__}

    def _do(self, frame: Frame) -> None:
        header = frame.header
        for key in header.get("drop", ()):
            self._shelf.drop(key)
        op = header["op"]
        if op == "answers":
            self._gathering.answered()
            for told, data in apart(header, frame.data):
                self._tell(told, data)
        elif op == "tell":
            self._tell(header, frame.data)
        elif op != "drop":
            getattr(self, f"_{op}")(header)

    def _tell(self, header: dict[str, Any], data: bytes) -> None:
        attendant = self._children.get(header["child"])
        if attendant is not None:
            attendant.tell(header["told"], data)

    def _preload(self, header: dict[str, Any]) -> None:
        self._modules = header["modules"]
        launch.shared().preload(self._modules)

    def _launch(self, header: dict[str, Any]) -> None:
        threading.Thread(target=self._start_child, args=(header,), name="cluster launch", daemon=True).start()

    def _start_child(self, header: dict[str, Any]) -> None:
        number = header["child"]
        try:
            page = Status.create()
            secret = self._secret.hex()  # which never crosses the network
            own = {**header["header"], "host": self._host, "secret": secret}
            child = launch.child_of_shared(ENTRY, own, [page.segment.descriptor], tuple(header["seat"]), self._modules)
            page.segment.close()
        except Exception as error:  # noqa: BLE001 the main process decides what follows
            self._talk.send({"op": "unborn", "child": number, "why": f"{error}"})
            return
        self._children[number] = Attendant(number, child, page, self._shelf, self._gathering.say, self._for_main)
        if number in self._closed:  # it took too long
            self._close(header)
            return
        self._talk.send({"op": "born", "child": number, "pid": child.pid})

    def _wire(self, header: dict[str, Any]) -> None:
        """What workers here put on this wire is read in the main process."""
        self._for_main.add(header["wire"])

    def _kill(self, header: dict[str, Any]) -> None:
        if header["child"] in self._children:
            self._children[header["child"]].child.kill()

    def _stop(self, header: dict[str, Any]) -> None:
        if header["child"] in self._children:
            self._children[header["child"]].page.ask_to_stop()

    def _close(self, header: dict[str, Any]) -> None:
        self._closed.add(header["child"])
        attendant = self._children.pop(header["child"], None)
        if attendant is not None:
            attendant.close()

    def _bye(self, header: dict[str, Any]) -> None:
        self._over.set()

    def _forget(self, header: dict[str, Any]) -> None:
        self._shelf.forget(tuple(header["shelf"]))

    def _report(self) -> None:
        while not self._over.wait(REPORT_S):
            found = {n: report for n, a in list(self._children.items()) if (report := a.report()) is not None}
            if found or not self._talk.busy:
                self._talk.send({"op": "pages", "pages": found})
