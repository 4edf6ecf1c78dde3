# SPDX-License-Identifier: Apache-2.0
"""A conversation that outlives its connections: everything comes, in order, once."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.engines.cluster.frames import Cut, Frame, Stream
from shoal.engines.cluster.lasting import Lasting

WAIT_S = 60.0


class Side:
    """One end: what it has received, and how it goes on over another connection."""

    def __init__(self, *, accepting: bool = True):
        self.talk, self.came = Lasting(), []
        self._accepting = accepting
        self._thread: threading.Thread | None = None

    def go_on(self, end: socket.socket, received: int) -> None:
        """Over this connection, with a side that has received so much."""
        stream = Stream(end)
        self.talk.attach(stream, received)
        self._thread = threading.Thread(target=self._receive, args=(stream,), daemon=True)
        self._thread.start()

    def ended(self) -> None:
        """Wait until this connection's receiver has ended."""
        if self._thread is not None:
            self._thread.join(WAIT_S)
            assert not self._thread.is_alive()

    def _receive(self, stream: Stream) -> None:
        try:
            while True:
                frame = stream.receive()
                if self.talk.accept(frame) or not self._accepting:
                    self.came.append((frame.header["what"], frame.data))
        except Cut:
            self.talk.detach(stream)
            stream.close()


class Wire:
    """Connections between two sides, each of which lets so many bytes of either direction pass and then breaks."""

    def __init__(self, near: Side, far: Side):
        self.near, self.far = near, far
        self._pumps: list[threading.Thread] = []
        self._both: tuple[socket.socket, ...] = ()

    def connect(self, there: int | None = None, back: int | None = None) -> None:
        """A new connection; without numbers of bytes, one that lasts."""
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        self._both = both = (b, c)
        self._pumps = [
            threading.Thread(target=pump, args=(b, c, there, both), daemon=True),
            threading.Thread(target=pump, args=(c, b, back, both), daemon=True),
        ]
        for one in self._pumps:
            one.start()
        got_near, got_far = self.near.talk.received, self.far.talk.received
        self.near.go_on(a, got_far)
        self.far.go_on(d, got_near)

    def cut(self) -> None:
        """Break the connection, and return when both sides have noticed."""
        hang_up(self._both)
        for one in self._pumps:
            one.join(WAIT_S)
        self.near.ended()
        self.far.ended()


def pump(source: socket.socket, target: socket.socket, limit: int | None, both: tuple) -> None:
    """Pass so many bytes on, then break the connection in both directions."""
    passed = 0
    try:
        while limit is None or passed < limit:
            chunk = source.recv(4096 if limit is None else min(4096, limit - passed))
            if not chunk:
                break
            target.sendall(chunk)
            passed += len(chunk)
    except OSError:
        pass
    hang_up(both)


def hang_up(ends: tuple[socket.socket, ...]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def have(side: Side, count: int) -> bool:
    """Whether so many messages come."""
    until = time.monotonic() + WAIT_S
    while len(side.came) < count and time.monotonic() < until:
        time.sleep(0.001)
    return len(side.came) >= count


def message(number: int, size: int) -> tuple[int, bytes]:
    return number, np.random.default_rng(number).bytes(size)


SIZES = st.lists(st.sampled_from([0, 1, 50, 3000, 70_000]), max_size=12)
BREAKS = st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30_000), SIZES, SIZES), max_size=4)


@given(first=st.tuples(SIZES, SIZES), breaks=BREAKS)
@settings(max_examples=60, deadline=None)
def test_everything_comes_in_order_once(first, breaks):
    """However often the connection breaks, and wherever in a message."""
    near, far = Side(), Side()
    wire, said = Wire(near, far), ([], [])

    def say(sizes_near, sizes_far):
        for side, log, sizes in ((near, said[0], sizes_near), (far, said[1], sizes_far)):
            for size in sizes:
                log.append(message(len(log), size))
                side.talk.send({"what": log[-1][0]}, log[-1][1])

    say(*first)  # before there is any connection
    for there, back, sizes_near, sizes_far in breaks:
        wire.connect(there, back)
        say(sizes_near, sizes_far)
        time.sleep(0.005)
        wire.cut()  # where less than so many bytes are ever sent
    wire.connect()
    assert have(far, len(said[0]))
    assert have(near, len(said[1]))
    wire.cut()
    assert far.came == said[0]
    assert near.came == said[1]
    assert near.talk.connections == len(breaks) + 1


def test_without_accept_messages_would_come_twice():
    """What the numbers are for: an ablation."""
    counts = {}
    for accepting in (True, False):
        near, far = Side(), Side(accepting=accepting)
        a, b = socket.socketpair()
        near.go_on(a, 0)
        far.go_on(b, 0)
        for number in range(5):
            near.talk.send({"what": number})
        assert have(far, 5)
        near.talk.cut()
        near.ended()
        far.ended()
        c, d = socket.socketpair()
        near.go_on(c, 2)  # as if only two had been confirmed when the connection broke
        far.go_on(d, 0)
        near.talk.send({"what": 5})
        assert have(far, 6 if accepting else 9)
        counts[accepting] = [what for what, _ in far.came]
        assert near.talk.sent_again == 3
    assert counts[True] == [0, 1, 2, 3, 4, 5]
    assert counts[False] == [0, 1, 2, 3, 4, 2, 3, 4, 5]


def test_a_gap_is_a_cut_and_not_a_loss():
    talk = Lasting()
    assert talk.accept(Frame({"n": 1, "got": 0}, b""))
    with pytest.raises(Cut, match="message 3 came after 1"):
        talk.accept(Frame({"n": 3, "got": 0}, b""))
    assert talk.accept(Frame({"n": 2, "got": 0}, b""))
    assert not talk.accept(Frame({"n": 2, "got": 0}, b""))


def test_what_is_confirmed_is_kept_no_longer():
    near, far = Side(), Side()
    for number in range(100):
        near.talk.send({"what": number}, bytes(1000))
    assert near.talk.kept == 100
    a, b = socket.socketpair()
    near.go_on(a, 0)
    far.go_on(b, 0)
    assert have(far, 100)
    far.talk.send({"what": 0})  # says how much has come
    assert have(near, 1)
    near.talk.send({"what": 100})
    assert near.talk.kept == 1
    near.talk.cut()


def test_both_sides_may_have_more_to_say_again_than_a_connection_holds():
    near, far = Side(), Side()
    for side in (near, far):
        for number in range(100):
            side.talk.send({"what": number}, bytes(100_000))
    a, b = socket.socketpair()
    near.go_on(a, 0)
    far.go_on(b, 0)
    assert have(near, 100)
    assert have(far, 100)
    near.talk.cut()


def test_who_sends_while_the_other_side_takes_nothing_is_freed_by_a_cut():
    near = Side()
    a, _open = socket.socketpair()
    near.go_on(a, 0)
    sending = threading.Thread(target=near.talk.send, args=({"what": 0}, bytes(10_000_000)), daemon=True)
    sending.start()
    until = time.monotonic() + WAIT_S
    while not near.talk.busy and time.monotonic() < until:
        time.sleep(0.005)
    assert near.talk.busy
    sending.join(0.05)
    assert sending.is_alive()
    near.talk.cut()
    sending.join(WAIT_S)
    assert not sending.is_alive()
    assert not near.talk.connected
    near.talk.send({"what": 1})  # kept for the next connection
    assert near.talk.kept == 2
