# SPDX-License-Identifier: Apache-2.0
"""A bad network between nodes and the main process: every message comes once, whole and in order."""

import threading
import time

import pytest

from architectures import small
from cluster.counting import SIZE, Counting
from cluster.proxy import Weather
from clusters import LocalCluster
from shoal.engines import make_engine
from shoal.engines.cluster import agent, fleet

PATIENCE_S = 200.0
"""for which silence is borne: longer than anybody may be without a core"""


class Stormy:
    """A cluster of two nodes, under a weather."""

    def __init__(self, silence_s: float):
        self.weather = Weather()
        self.cluster = LocalCluster(2, self.weather.via, silence_s=silence_s)

    def close(self):
        self.cluster.close()
        self.weather.close()

    def run(self, counting: Counting):
        """Run it in free order; nothing may be missing."""
        engine = make_engine("ray", cluster=self.cluster)
        more = counting.until
        counting.until = lambda tally: len(tally.lives) == counting.actors and more(tally)
        tally = counting.on(engine)
        assert tally.missing == 0
        assert sum(tally.got.values()) >= counting.items
        assert set(tally.lives.values()) == {0}, engine.losses()
        assert {place["node"] for place in engine.pids} == {"node0", "node1"}
        assert engine.lost_messages() == {}
        return tally

    def talks(self):
        """What was counted of the conversations with the nodes."""
        return [node.talk for node in self.cluster.fleet.nodes.values()]


@pytest.fixture(scope="module")
def both():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "SILENCE_S", PATIENCE_S)
        one = Stormy(PATIENCE_S)
        yield one
        one.close()


@pytest.fixture
def stormy(both):
    yield both
    both.weather.delay = both.weather.loss = 0.0


def connections(stormy: Stormy) -> int:
    return sum(talk.connections for talk in stormy.talks())


def sent_again(stormy: Stormy) -> int:
    return sum(talk.sent_again for talk in stormy.talks())


def test_in_calm_weather_connections_last(stormy):
    before = connections(stormy)
    stormy.run(Counting(100))
    assert connections(stormy) == before


def test_a_cut_of_two_seconds(stormy):
    before, began = connections(stormy), time.monotonic()
    stormy.run(Counting(100, at={40: lambda: stormy.weather.freeze(2.0)}))
    assert time.monotonic() - began > 2.0
    assert connections(stormy) == before  # TCP bridges it


def test_a_cut_longer_than_silence_is_bridged_by_new_connections(stormy, monkeypatch):
    before = connections(stormy)
    monkeypatch.setattr(fleet, "SILENCE_S", 1.0)  # from the next connection on
    stormy.weather.reset()

    def cut() -> None:
        stormy.weather.freeze(600)
        threading.Thread(target=thaw, daemon=True).start()

    def thaw() -> None:
        while any(talk.connected for talk in stormy.talks()):
            time.sleep(0.05)
        stormy.weather.thaw()

    bridged = {"until": lambda _: connections(stormy) >= before + 4, "seconds": 250.0}
    stormy.run(Counting(150, at={60: cut}, **bridged))
    monkeypatch.undo()
    stormy.weather.reset()


def test_connections_that_are_reset_again_and_again(stormy):
    before, again = connections(stormy), sent_again(stormy)
    stormy.weather.delay = 0.02  # so there is always something on its way
    over = threading.Event()

    def reset_often(_tally) -> bool:
        return connections(stormy) > before + 2 and sent_again(stormy) > again

    def reset() -> None:
        while not over.wait(1.0):
            stormy.weather.reset()

    breaking = threading.Thread(target=reset)
    breaking.start()
    try:
        stormy.run(Counting(80, size=60_000, until=reset_often, seconds=250.0))
    finally:
        over.set()
        breaking.join()


def test_a_delay_of_200_ms_each_way(stormy):
    stormy.weather.delay = 0.2
    began = time.monotonic()
    stormy.run(Counting(5))
    assert time.monotonic() - began > 0.8


@pytest.mark.slow
def test_a_long_delay_for_long(stormy):
    stormy.weather.delay = 0.2
    stormy.run(Counting(30))


@pytest.mark.slow
def test_a_third_of_all_packets_lost(stormy):
    stormy.weather.loss = 0.3
    stormy.run(Counting(40, at={n: stormy.weather.reset for n in (10, 20, 30)}))


@pytest.mark.slow
def test_a_cut_of_fifteen_seconds(monkeypatch):
    """Longer than silence is usually borne: both sides make their connections anew."""
    monkeypatch.setattr(fleet, "SILENCE_S", agent.SILENCE_S)
    stormy = Stormy(agent.SILENCE_S)
    before = connections(stormy)
    stormy.run(Counting(100, at={40: lambda: stormy.weather.freeze(15.0)}))
    assert connections(stormy) >= before + 2
    stormy.close()


@pytest.mark.slow
def test_all_of_it_together(stormy):
    weather = stormy.weather
    weather.delay, weather.loss = 0.05, 0.05
    at = {20: lambda: weather.freeze(3.0), 30: weather.reset, 40: lambda: weather.freeze(1.0), 41: weather.reset}
    stormy.run(Counting(60, size=3 * SIZE, at=at))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 12.0])
def test_impala_learns_through_a_cut(stormy, monkeypatch, seconds):
    visits = []

    def visit(run, *what):
        visits.append(what)
        if len(visits) == 5:
            stormy.weather.freeze(seconds)
        return plain(run, *what)

    plain = small.Run.visit
    monkeypatch.setattr(small.Run, "visit", visit)
    monkeypatch.setattr(small, "two_nodes", lambda: stormy.cluster)
    run = small.run_small("impala", "ray", updates=20)
    assert run.states[-1].version == len(visits) >= 20
    assert run.engine.losses() == []
    assert run.engine.lost_messages() == {}
