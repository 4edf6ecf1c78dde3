# SPDX-License-Identifier: Apache-2.0
"""Messages of a node's workers on their way to the main process: several at once where it is busy, and all in order."""

import threading
import time
from contextlib import suppress

import pytest

from shoal.engines.cluster.far import FarChild, FarLink
from shoal.engines.cluster.fleet import Fleet
from shoal.engines.cluster.frames import Frame
from shoal.engines.cluster.gathering import AHEAD, Gathering, apart, together
from shoal.processes.link import Hangup, Message

DEADLINE_S = 30.0


def until(condition) -> bool:
    """Wait for it."""
    ends = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < ends:
        time.sleep(0.002)
    return condition()


@pytest.mark.parametrize("said", [[({"a": 1}, b"")], [({}, b"ab"), ({"b": [2]}, b""), ({"c": None}, b"cde")], []])
def test_what_was_put_together_comes_apart(said):
    assert apart(*together("messages", said)) == said


def test_what_is_said_while_main_is_busy_goes_along_with_the_next_message():
    sent = []
    gathering = Gathering(lambda header, data: sent.append(apart(header, data)))
    for number in range(100):
        gathering.say({"n": number}, bytes([number]))
    assert [len(said) for said in sent] == [1] * AHEAD
    gathering.answered()
    assert until(lambda: len(sent) == AHEAD + 1)
    assert [(header["n"], data) for said in sent for header, data in said] == [(n, bytes([n])) for n in range(100)]
    for _ in range(AHEAD):
        gathering.answered()
    gathering.say({"n": 100})
    assert until(lambda: len(sent) == AHEAD + 2)


def test_while_main_is_quick_nothing_waits():
    sent = []

    def send(header, data) -> None:
        sent.append(apart(header, data))
        gathering.answered()

    gathering = Gathering(send)
    for number in range(20):
        gathering.say({"n": number})
    assert [len(said) for said in sent] == [1] * 20


def test_whoever_speaks_beside_whom_everything_arrives_once_and_in_the_speakers_order():
    sent, answering = [], threading.Semaphore(0)

    def send(header, data) -> None:
        sent.extend(header for header, _ in apart(header, data))
        answering.release()

    gathering = Gathering(send)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            if answering.acquire(timeout=0.01):
                gathering.answered()

    def speak(who) -> None:
        for number in range(300):
            gathering.say({"who": who, "n": number})

    threads = [threading.Thread(target=answer), *(threading.Thread(target=speak, args=(who,)) for who in range(6))]
    for thread in threads:
        thread.start()
    assert until(lambda: len(sent) == 6 * 300)
    over.set()
    for thread in threads:
        thread.join()
    for who in range(6):
        assert [header["n"] for header in sent if header["who"] == who] == list(range(300))


class Quiet:
    """A node that says nothing."""

    connected = True

    def __init__(self):
        self.said = []

    def say(self, header, data=b"") -> None:
        self.said.append(header)


def message(number) -> Message:
    return Message({"n": number}, b"", [])


def test_a_message_is_seen_to_at_once_only_while_the_shadow_has_nothing_in_hand():
    """Else one could be done before the one that came ahead of it."""
    link, at_hand, answers = FarLink(FarChild(Quiet(), 1, ("/s", "actor", 0))), [], []

    def hear(number) -> None:
        left = link.hear(message(number), answers)
        if left is not None:
            link.deliver(left)

    def at_once(one):
        if one.header["n"] == 2:  # would have to wait
            return one
        at_hand.append(one.header["n"])
        link.send({"well": True})
        return None

    link.at_once = at_once
    hear(0)  # the call is still being made
    assert (at_hand, answers) == ([], [])
    shadow = []

    def read() -> None:
        for _ in range(3):
            shadow.append(link.receive().header["n"])
            go_on.acquire()
        with suppress(Hangup):
            link.receive()

    go_on = threading.Semaphore(0)
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    assert until(lambda: shadow == [0])
    go_on.release()
    assert until(lambda: link.idle)
    hear(1)
    assert at_hand == [1]
    assert [told["told"] for told, _ in answers] == [{"well": True}]
    hear(2)
    assert until(lambda: shadow == [0, 2])
    hear(3)  # the shadow still has the one before it in hand
    assert at_hand == [1]
    go_on.release()
    assert until(lambda: shadow == [0, 2, 3])
    go_on.release()
    assert until(lambda: link.idle)
    hear(4)
    assert at_hand == [1, 4]
    link.deliver(None)
    reading.join()


def test_answers_go_before_what_the_shadows_threads_get():
    """Else what a shadow says to a question could come before the word on what its child had told ahead of it."""
    fleet = Fleet("127.0.0.1")
    try:
        node, events = fleet.expect("n"), []
        child = node.children[1] = FarChild(node, 1, ("/s", "actor", 0))
        node.say = lambda header, data=b"": events.append(header["op"])
        child.link.deliver = lambda one: events.append(one.header["n"])
        child.link.at_once = lambda one: one if one.header["n"] == 2 else child.link.send({"well": True})
        threading.Thread(target=child.link.receive, daemon=True).start()
        assert until(lambda: child.link.idle)
        said = [({"op": "said", "child": 1, "said": {"n": number}}, b"") for number in (1, 2, 3)]
        node.hear(Frame(*together("messages", said)))
        assert events == ["answers", 2, 3]
        del child.link.deliver
        child.link.deliver(message(4))  # for the thread that waits
    finally:
        fleet.close()
