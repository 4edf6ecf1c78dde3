# SPDX-License-Identifier: Apache-2.0
"""The main process's side of its nodes, before agents that do as the test says."""

import threading
import time

import pytest

import shoal
from shoal.engines.cluster import fleet as fleets
from shoal.engines.cluster.far import FarChild
from shoal.engines.cluster.fleet import Fleet, Node, NodeLost
from shoal.engines.cluster.frames import Cut, dial
from shoal.errors import ShoalError
from shoal.processes.link import Hangup

LOOPBACK = "127.0.0.1"
FACTS = {"shelf": [LOOPBACK, 1], "shards": [LOOPBACK, 2], "pid": 1, "version": shoal.__version__}
NOTHING = {"op": "pages", "pages": {}}


@pytest.fixture
def fleet(monkeypatch):
    monkeypatch.setattr(fleets, "SILENCE_S", 200.0)  # fakes say nothing of themselves
    notes = []
    one = Fleet(LOOPBACK, notes.append)
    one.notes = notes
    yield one
    one.close()


class Fake:
    """An agent's connection."""

    def __init__(self, fleet: Fleet, name: str = "n", got: int = 0, **facts):
        self.stream = dial(fleet.address, fleet.secret)
        self.stream.send({"name": name, "got": got, **FACTS, **facts})
        self.stream.expect_within(60.0)
        self.number = 0

    def welcome(self) -> dict:
        return self.stream.receive().header

    def say(self, header: dict, number: int | None = None) -> None:
        self.number = self.number + 1 if number is None else number
        self.stream.send({**header, "n": self.number, "got": 0})

    def until(self, op: str) -> dict:
        """The next message of this kind."""
        while (header := self.stream.receive().header)["op"] != op:
            continue
        return header


def until(true, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def test_a_second_connection_waits_for_what_came_over_the_first(fleet, monkeypatch):
    """Else a message that comes again could be done twice, or before the one that came ahead of it."""
    heard, free = [], threading.Event()

    def hear(self, frame) -> None:
        heard.append(frame.header["n"])
        free.wait(60)

    monkeypatch.setattr(Node, "hear", hear)
    node = fleet.expect("n")

    def fake() -> Fake:
        """One more connection, which the fleet has seen."""
        newest = node.newest
        one = Fake(fleet)
        assert until(lambda: node.newest is not newest)
        return one

    first = fake()
    first.welcome()
    first.say(NOTHING, 1)
    assert until(lambda: heard == [1])
    second = fake()
    second.stream.expect_within(0.3)
    with pytest.raises(Cut):  # no welcome yet
        second.welcome()
    third = fake()
    free.set()
    assert third.welcome()["got"] == 1
    for number in (1, 2):
        third.say(NOTHING, number)
    assert until(lambda: heard == [1, 2])
    with pytest.raises(Cut):
        first.until("none")


def test_a_node_that_takes_nothing_silences_no_other(fleet):
    """Its connection is full, and a thread waits to send; the ticker must not."""
    for name in ("full", "n"):
        fleet.expect(name)
    full, other = Fake(fleet, "full"), Fake(fleet)
    full.welcome()
    other.welcome()
    node = fleet.nodes["full"]
    sending = threading.Thread(target=node.say, args=({"op": "tell"}, bytes(30_000_000)), daemon=True)
    sending.start()
    assert until(lambda: node.talk.busy)
    other.stream.expect_within(30.0)
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        assert other.stream.receive().header["op"] in ("drop", "preload")
    assert sending.is_alive()
    fleet.lose("full", "was given up")  # frees who waits
    sending.join(60)
    assert not sending.is_alive()


def test_a_silent_node_is_not_connected(fleet, monkeypatch):
    monkeypatch.setattr(fleets, "SILENCE_S", 2.0)
    node = fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()
    for _ in range(3):
        fake.say(NOTHING)
    assert until(lambda: node.talk.received == 3 and not node.connected)
    assert node.lost is None  # it may dial again
    again = Fake(fleet)
    assert again.welcome()["got"] == 3
    assert until(lambda: node.talk.connections == 2)


@pytest.mark.slow
def test_a_node_that_says_something_now_and_then_is_connected(fleet, monkeypatch):
    """For longer than silence is borne."""
    monkeypatch.setattr(fleets, "SILENCE_S", 10.0)
    node = fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()
    for _ in range(24):
        time.sleep(0.5)
        fake.say(NOTHING)
    assert node.connected
    assert node.talk.connections == 1


def test_a_node_that_stays_out_of_reach_is_given_up(fleet, monkeypatch):
    """As one whose agent hangs while its machine is well."""
    hung, other = fleet.expect("hung"), fleet.expect("n")
    agents = [Fake(fleet, name) for name in ("hung", "n")]
    for agent in agents:
        agent.welcome()
    assert until(lambda: hung.connected and other.connected)
    monkeypatch.setattr(fleets, "GIVEN_UP_S", 5.0)
    hung.talk.cut()
    assert until(lambda: fleet.notes == ["node hung is out of reach for 5 s"])
    assert hung.lost is not None
    assert other.lost is None


def test_nodes_that_are_not_wanted_are_told_to_end(fleet):
    assert Fake(fleet, "stranger").welcome() == {"over": "nobody expects it"}
    fleet.expect("n")
    fleet.lose("n", "was given up")
    assert Fake(fleet).welcome() == {"over": "was given up"}


def test_a_node_with_another_version_is_lost_in_one_line(fleet):
    fleet.expect("n")
    text = f"has shoal 0.0 and this is {shoal.__version__}; install the same on both"
    assert Fake(fleet, version="0.0").welcome() == {"over": text}
    assert fleet.notes == [f"node n {text}"]
    with pytest.raises(NodeLost, match="^node n has shoal 0.0 and this is"):
        fleet.launch(fleet.nodes["n"], {"path": "/s", "role": "actor", "index": 0}, (None, 0))


def test_a_node_that_never_dials_is_named(fleet):
    fleet.expect("n")
    with pytest.raises(NodeLost, match=r"^node n did not reach 127.0.0.1:\d+ within 0.1 s; let its network reach"):
        fleet.await_nodes(0.1)


def test_how_to_pack_is_said_to_nodes():
    fleet = Fleet(LOOPBACK, compress="never")
    fleet.expect("n")
    assert Fake(fleet).welcome() == {"got": 0, "compress": "never"}
    fleet.close()


def test_what_is_dropped_is_said_once(fleet):
    """However many threads speak to a node meanwhile."""
    node, said, begin = fleet.expect("n"), [], threading.Barrier(5)
    fake = Fake(fleet)
    fake.welcome()

    def listen() -> None:
        while len(said) < 4000:
            said.extend(fake.stream.receive().header.get("drop", ()))

    def drop(first: int) -> None:
        begin.wait()
        for key in range(first, first + 1000):
            node.drop(key)
            if key % 3 == 0:
                node.say({"op": "drop"})

    work = [threading.Thread(target=drop, args=(first,)) for first in range(0, 4000, 1000)]
    for thread in work:
        thread.start()
    begin.wait()
    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    for thread in work:
        thread.join()
    listening.join(60)
    assert sorted(said) == list(range(4000))


def launched(fleet: Fleet, fake: Fake) -> FarChild:
    """A child that the node says it has started."""
    children = []
    header = {"path": "/s", "role": "actor", "index": 0}
    launching = threading.Thread(
        target=lambda: children.append(fleet.launch(fleet.nodes["n"], header, (None, 0))), daemon=True
    )
    launching.start()
    fake.say({"op": "born", "child": fake.until("launch")["child"], "pid": 77})
    launching.join(60)
    return children[0]


def test_what_a_child_said_and_nobody_heard_is_dropped_on_its_node(fleet):
    """Before it was closed and after."""
    fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()
    child = launched(fleet, fake)
    assert child.pid == 77
    fake.say({"op": "said", "child": child.number, "said": {"op": "put", "lies": 5}})
    assert until(lambda: not child.link._come.empty())
    child.close()
    dropped = []
    while (header := fake.stream.receive().header)["op"] != "close":
        dropped += header.get("drop", ())
    assert [*dropped, *header.get("drop", ())] == [5]
    fake.say({"op": "said", "child": child.number, "said": {"op": "put", "lies": 6}})
    while (header := fake.until("drop")).get("drop") != [6]:
        assert "drop" not in header


def test_a_childs_end_says_what_it_was_about(fleet):
    fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()
    child = launched(fleet, fake)
    end = {"code": -9, "how": "was killed by SIGKILL", "page": [3, "act", [1, 2, 3], False]}
    fake.say({"op": "ended", "child": child.number, **end})
    with pytest.raises(Hangup):
        child.link.receive()
    assert child.wait(60) == -9
    assert (child.page.busy, list(child.page.env)) == ("act", [1, 2, 3])
    assert child.describe(-9) == "was killed by SIGKILL"


def test_a_node_that_starts_no_child_says_why(fleet):
    fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()

    def refuse() -> None:
        fake.say({"op": "unborn", "child": fake.until("launch")["child"], "why": "out of memory"})

    threading.Thread(target=refuse, daemon=True).start()
    with pytest.raises(ShoalError, match="^node n started no worker: out of memory$"):
        fleet.launch(fleet.nodes["n"], {"path": "/s", "role": "actor", "index": 0}, (None, 0))
    assert fleet.nodes["n"].children == {}


def test_goodbye_is_heard_before_the_connection_ends(monkeypatch):
    """Though the node has said much that nobody has read yet."""
    monkeypatch.setattr(fleets, "BYE_S", 60.0)
    fleet = Fleet(LOOPBACK)
    fleet.expect("n")
    fake = Fake(fleet)
    fake.welcome()
    assert fleet.nodes["n"].there.wait(60)
    closing = threading.Thread(target=fleet.close)
    closing.start()
    for _ in range(100):
        fake.say(NOTHING)
    assert fake.until("bye")
    fake.stream.close()
    closing.join(60)
    assert not closing.is_alive()
