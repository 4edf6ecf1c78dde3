# SPDX-License-Identifier: Apache-2.0
"""Messages arrive whole, in order, with what came along, or not at all."""

import os
import random
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.processes import launch
from shoal.processes.link import LARGEST, MOST_DESCRIPTORS, Hangup, Link

headers = st.dictionaries(
    st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=3)), max_size=4
)
around_the_limit = st.integers(-60, 60).map(lambda n: LARGEST + n)
sizes = st.one_of(st.integers(0, 200), around_the_limit, st.integers(2 * LARGEST, 5 * LARGEST))


def descriptors_open() -> int:
    return len(os.listdir("/proc/self/fd"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(headers, sizes), max_size=4))
def test_messages_of_any_size_arrive_whole_and_in_order(messages):
    ours, theirs = Link.pair()
    bulk = random.Random(0).randbytes(5 * LARGEST)
    got = []
    reader = threading.Thread(target=lambda: got.extend(theirs.receive() for _ in messages))
    reader.start()
    for header, size in messages:
        ours.send(header, bulk[:size])
    reader.join()
    assert [(m.header, m.data, m.descriptors) for m in got] == [(h, bulk[:n], []) for h, n in messages]
    ours.close()
    theirs.close()


def test_whole_numbers_of_numpy_are_numbers():
    ours, theirs = Link.pair()
    ours.send({"version": np.int64(3)})
    assert theirs.receive().header == {"version": 3}
    with pytest.raises(TypeError):
        ours.send({"version": np.zeros(2)})


@pytest.mark.parametrize("size", [0, 2 * LARGEST])
@pytest.mark.parametrize("count", [1, MOST_DESCRIPTORS])
def test_descriptors_come_along_in_their_order(count, size):
    ours, theirs = Link.pair()
    before = descriptors_open()
    sent = [os.memfd_create(f"number {number}") for number in range(count)]
    for number, memory in enumerate(sent):
        os.write(memory, b"%d" % number)
    ours.send({}, b"x" * size, sent)
    message = theirs.receive()
    assert len(message.data) == size
    assert [os.pread(fd, 9, 0) for fd in message.descriptors] == [b"%d" % number for number in range(count)]
    for fd in (*sent, *message.descriptors):
        os.close(fd)
    assert descriptors_open() == before
    with pytest.raises(ValueError, match="at most 16"):
        ours.send({}, b"", [0] * (MOST_DESCRIPTORS + 1))


def test_what_was_sent_is_read_before_the_end_is_heard():
    ours, theirs = Link.pair()
    for count in range(3):
        ours.send({"count": count})
    ours.close()
    assert [theirs.receive().header["count"] for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        assert theirs.ready(0)
        with pytest.raises(Hangup):
            theirs.receive()
    with pytest.raises(Hangup):
        theirs.send({})


def test_a_shutdown_wakes_who_waits():
    ours, theirs = Link.pair()
    heard = []

    def wait():
        with pytest.raises(Hangup):
            ours.receive()
        heard.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.02)
    ours.shutdown()
    waiting.join(60)
    assert heard == [True]
    with pytest.raises(Hangup):
        theirs.receive()


def test_ready_says_whether_a_message_is_there():
    ours, theirs = Link.pair()
    assert not theirs.ready(0)
    assert not theirs.ready(-1)
    ours.send({})
    assert theirs.ready(0)


def drink(seed: int, delay_s: float) -> int:
    """Read from a child that pours until it is killed a while after its launch, or after its first message where the
    seed is odd; how many messages came. Every one is whole."""
    child = launch.shared().launch("processes.children:pour", {"seed": seed})
    count = 0
    try:
        while True:
            if count == seed % 2:
                threading.Timer(delay_s, child.kill).start()
            message = child.link.receive()
            assert message.header["count"] == count
            assert zlib.crc32(message.data) == message.header["crc"]
            (pipe,) = message.descriptors
            assert os.read(pipe, 99) == b"%d" % count
            os.close(pipe)
            count += 1
    except Hangup:
        assert child.wait(60) == -9
        return count
    finally:
        child.close()


def kill_many(times: int) -> None:
    before = descriptors_open()
    rng = random.Random(times)
    counts = [drink(seed, 0.003 + 0.05 * rng.random() ** 2) for seed in range(times)]
    assert min(counts[1::2]) >= 1
    assert descriptors_open() == before


def test_a_sender_that_is_killed_leaves_no_half_message():
    launch.shared()
    kill_many(15)


@pytest.mark.slow
def test_many_senders_that_are_killed_leave_no_half_message():
    launch.shared()
    kill_many(1000)


def test_a_receiver_that_may_open_no_more_files_says_so_in_one_line():
    child = launch.shared().launch("processes.children:run_out_of_files")
    child.link.receive()
    null = os.open(os.devnull, os.O_RDONLY)
    child.link.send({}, b"", [null])
    assert child.link.receive().header == {"error": ""}
    child.link.send({}, b"", [null] * 4)
    answer = child.link.receive().header
    assert "Too many open files" in answer["error"]
    assert "ulimit -n" in answer["error"]
    assert "\n" not in answer["error"]
    assert answer["opened"] <= 1  # what came with the message that could not be kept was closed
    os.close(null)
    child.close()
