# SPDX-License-Identifier: Apache-2.0
"""A network between two processes, in user space: TCP connections that can be delayed, held up, lossy, or broken.

    who dials --> Proxy --lines, one for each direction and connection--> who listens

TCP hides lost packets: they show as a stall of what comes behind them, until the sender has sent them again. That is
what `loss` does.
"""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable

PACKET = 1448
"""bytes of data in a packet of Ethernet"""
RTO_S = 0.2
"""seconds after which a lost packet is sent again; doubled each time that it is lost once more"""


class Weather:
    """What a network does to all connections over it. Change it while they last."""

    def __init__(self, delay: float = 0.0, loss: float = 0.0, seed: int = 0):
        self.delay, self.loss = delay, loss
        self._open = threading.Event()
        self._open.set()
        self._random = random.Random(seed)
        self._proxies: list[Proxy] = []
        self.resets = 0

    def via(self, who: str, address: tuple[str, int]) -> tuple[str, int]:
        """A new way to an address, under this weather: what `LocalCluster` asks for."""
        proxy = Proxy(address, self)
        self._proxies.append(proxy)
        return proxy.address

    def freeze(self, seconds: float) -> None:
        """For so long nothing passes; then what was held up does. New connections find no answer meanwhile."""
        self._open.clear()
        timer = threading.Timer(seconds, self._open.set)
        timer.daemon = True
        timer.start()

    def thaw(self) -> None:
        """What was held up passes now."""
        self._open.set()

    def reset(self) -> None:
        """Break all connections, wherever in a message they are."""
        self.resets += 1
        for proxy in list(self._proxies):
            proxy.reset()

    def close(self) -> None:
        """The end of this network."""
        self._open.set()
        for proxy in self._proxies:
            proxy.close()

    def stall(self) -> float:
        """Seconds by which the next packet comes later than the line is long."""
        seconds, timeout = 0.0, RTO_S
        while self._random.random() < self.loss:
            seconds, timeout = seconds + timeout, 2 * timeout
        return seconds

    def wait_until_open(self) -> None:
        """Return once packets pass."""
        self._open.wait()


class Proxy:
    """The way to one listener."""

    def __init__(self, target: tuple[str, int], weather: Weather):
        self._target, self._weather = target, weather
        self._ends: list[socket.socket] = []
        self._turn = threading.Lock()
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = self._server.getsockname()
        start(self._accept)

    def reset(self) -> None:
        """Break its connections."""
        with self._turn:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more, and break what there is."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.reset()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                start(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self._weather.wait_until_open()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._turn:
            self._ends += [near, far]
            self.connections += 1
        lines = [start(Line(near, far, self._weather).run), start(Line(far, near, self._weather).run)]
        for line in lines:
            line.join()
        near.close()
        far.close()


class Line:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, target: socket.socket, weather: Weather):
        self._source, self._target, self._weather = source, target, weather
        self._held: list[tuple[float, bytes]] = []
        self._come = threading.Condition()

    def run(self) -> None:
        """Until the connection ends."""
        passing = start(self._pass_on)
        try:
            while chunk := self._source.recv(PACKET if self._weather.loss else 2**16):
                self._hold(time.monotonic() + self._weather.delay + self._weather.stall(), chunk)
        except OSError:
            pass
        self._hold(time.monotonic() + self._weather.delay, b"")
        passing.join()

    def _hold(self, until: float, chunk: bytes) -> None:
        with self._come:
            self._come.wait_for(lambda: len(self._held) < 256)  # a window: who sends more waits
            self._held.append((until, chunk))
            self._come.notify_all()

    def _pass_on(self) -> None:
        try:
            while True:
                with self._come:
                    self._come.wait_for(lambda: self._held)
                    until, chunk = self._held.pop(0)
                    self._come.notify_all()
                time.sleep(max(0.0, until - time.monotonic()))
                self._weather.wait_until_open()
                if not chunk:
                    break
                self._target.sendall(chunk)
        except OSError:
            pass
        for end in (self._source, self._target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._come:
            self._held.clear()
            self._come.notify_all()


def start(work: Callable[..., None], *args: object) -> threading.Thread:
    """A thread that does this."""
    thread = threading.Thread(target=work, args=args, name="proxy", daemon=True)
    thread.start()
    return thread
