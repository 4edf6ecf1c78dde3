# SPDX-License-Identifier: Apache-2.0
"""Messages over TCP: whole, in order, and only between those who know the secret."""

import contextlib
import os
import socket
import threading
import time

import numpy as np
import pytest

from shoal.engines.cluster import frames
from shoal.engines.cluster.frames import HEAD, Absent, Cut, Listener, Refused, Stream, dial

SECRET = b"s" * 32
LOOPBACK = "127.0.0.1"


def echo(stream: Stream) -> None:
    """Say everything back."""
    while True:
        frame = stream.receive()
        stream.send(frame.header, frame.data)


@pytest.fixture
def listener():
    door = Listener(LOOPBACK, SECRET, echo, "cluster test")
    yield door
    door.close()


def answers(door: Listener, seconds: float = 60.0) -> bool:
    """Whether who knows the secret is served. Who is late with it, for want of a core, dials again."""
    until = time.monotonic() + seconds
    while True:
        try:
            stream = dial(door.address, SECRET)
            break
        except Cut:
            assert time.monotonic() < until
    stream.send({"n": 1}, b"word")
    with contextlib.closing(stream):
        return stream.receive() == ({"n": 1}, b"word")


def is_hung_up(end: socket.socket, seconds: float = 60.0) -> bool:
    """Whether the other side closes within so many seconds, whatever it says before."""
    end.settimeout(seconds)
    try:
        while end.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_who_knows_another_secret_is_refused_and_others_are_served(listener):
    with pytest.raises(Cut):  # the listener hangs up before it proves anything
        dial(listener.address, b"another")
    assert answers(listener)


def test_a_listener_without_the_secret_is_refused():
    """It cannot say what was proven to it back, nor find anything that the dialler would take."""

    def pretend(server: socket.socket) -> None:
        end, _ = server.accept()
        with end:
            end.sendall(os.urandom(frames.NONCE))
            said = end.recv(2 * frames.NONCE, socket.MSG_WAITALL)
            end.sendall(said[frames.NONCE :])

    with socket.create_server((LOOPBACK, 0)) as server:
        threading.Thread(target=pretend, args=(server,), daemon=True).start()
        with pytest.raises(Refused, match=r"^127.0.0.1:\d+ does not know this run's secret; it belongs"):
            dial(server.getsockname(), SECRET)


def test_nobody_there_is_told_from_no_answer(monkeypatch):
    monkeypatch.setattr(frames, "HELLO_S", 0.2)
    with socket.create_server((LOOPBACK, 0)) as server:
        address = server.getsockname()
        with pytest.raises(Cut) as silent:
            dial(address, SECRET)
        assert not isinstance(silent.value, Absent)
    with pytest.raises(Absent, match="nobody listens at"):
        dial(address, SECRET)


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n" * 10, b"", b"\x00" * 64, os.urandom(10_000)])
def test_a_stranger_does_no_harm(listener, monkeypatch, words):
    monkeypatch.setattr(frames, "HELLO_S", 0.3)
    with socket.create_connection(listener.address) as stranger:
        stranger.sendall(words)
        assert answers(listener)
        assert is_hung_up(stranger)
    assert answers(listener)


def test_a_header_too_long_ends_its_connection_only(listener):
    stream = dial(listener.address, SECRET)
    stream._socket.sendall(HEAD.pack(2**31, 0))
    with pytest.raises(Cut):
        stream.receive()
    stream.close()
    assert answers(listener)


def test_many_strangers_at_once(listener, monkeypatch):
    """They are waited for, but nobody else waits for that."""
    monkeypatch.setattr(frames, "HELLO_S", 60.0)
    strangers = [socket.create_connection(listener.address) for _ in range(50)]
    began = time.monotonic()
    assert answers(listener)
    assert time.monotonic() - began < 30.0
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**16 + 1, 10_000_000])
def test_a_message_comes_whole(listener, size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    stream = dial(listener.address, SECRET)
    with contextlib.closing(stream):
        sending = threading.Thread(target=stream.send, args=({"size": size, "numpy": np.int64(3)}, memoryview(data)))
        sending.start()
        frame = stream.receive()
        sending.join()
    assert frame.header == {"size": size, "numpy": 3}
    assert np.array_equal(np.frombuffer(frame.data, np.uint8), data)


def test_messages_of_many_threads_come_whole_and_in_each_ones_order(listener):
    stream = dial(listener.address, SECRET)

    def say(who: int) -> None:
        for count in range(200):
            stream.send({"who": who, "count": count}, bytes([who]) * (70_000 if count % 50 == 0 else count))

    sending = [threading.Thread(target=say, args=(who,)) for who in range(4)]
    for thread in sending:
        thread.start()
    came = [0] * 4
    for _ in range(4 * 200):
        header, data = stream.receive()
        who, count = header["who"], header["count"]
        assert count == came[who]
        assert data == bytes([who]) * (70_000 if count % 50 == 0 else count)
        came[who] += 1
    stream.close()


def test_data_is_read_into_memory():
    near, far = (Stream(end) for end in socket.socketpair())
    data = np.arange(50_000.0)
    sending = threading.Thread(target=near.send, args=({}, memoryview(data).cast("B")))
    sending.start()
    header, size = far.receive_head()
    memory = np.empty_like(data)
    far.receive_data(memory)
    sending.join()
    assert (header, size) == ({}, data.nbytes)
    assert np.array_equal(memory, data)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_peer_that_ends_in_the_middle_is_a_cut(share):
    end, far = socket.socketpair()
    stream = Stream(far)
    message = HEAD.pack(2, 1000) + b"{}" + bytes(1000)
    end.sendall(message[: int(share * len(message))])
    end.close()
    with pytest.raises(Cut):
        stream.receive()
    with pytest.raises(Cut):
        stream.send({}, b"")
        stream.send({}, bytes(2**20))


def test_silence_is_a_cut_where_words_are_expected():
    _open, far = socket.socketpair()
    stream = Stream(far)
    stream.expect_within(0.05)
    with pytest.raises(Cut):
        stream.receive()


def test_a_peer_that_takes_nothing_is_a_cut(monkeypatch):
    """Else a thread would send for as long as TCP hopes, a quarter of an hour."""
    monkeypatch.setattr(frames, "STUCK_S", 0.1)
    _open, far = socket.socketpair()
    stream = Stream(far)
    with pytest.raises(Cut):
        stream.send({}, bytes(10_000_000))


def test_a_cut_wakes_who_receives_and_who_sends():
    for work in (lambda stream: stream.receive(), lambda stream: stream.send({}, bytes(10_000_000))):
        _open, far = socket.socketpair()
        stream = Stream(far)
        threading.Timer(0.05, stream.cut).start()
        with pytest.raises(Cut):
            work(stream)


def test_a_closed_listener_ends_what_it_accepted(listener):
    stream = dial(listener.address, SECRET)
    listener.close()
    with pytest.raises(Cut):
        stream.receive()
        stream.receive()
    with pytest.raises(Cut):
        dial(listener.address, SECRET)
