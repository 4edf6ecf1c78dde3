# SPDX-License-Identifier: Apache-2.0
"""Channels and select on every engine: order, capacity, what is dropped, and the end of the other side."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.running import KINDS, engine_of, row
from shoal.engines import Ended, phase, select, system

on_every_engine = pytest.mark.parametrize("kind", KINDS)


def pause(kind):
    """Let the other threads run."""
    if kind == "threads":
        time.sleep(0.001)


def put_all(index, channel, items):
    for item in items:
        channel.put((index, phase("make", int, item)))


def get_all(capacity, producers, sizes):
    """What the learner gets when each producer puts 0, 1, 2, ... and it asks for these numbers of items."""
    with system("s", "learner") as s:
        channel = s.channel("ITEM", "actor", "learner", capacity)
        s.spawn("actor", producers, put_all, channel, range(sum(sizes)))
        got, deepest = [], 0
        for size in sizes:
            deepest = max(deepest, len(channel._items))
            got.append(channel.get(size))
    return got, deepest


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    capacity=st.integers(1, 5),
    producers=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
)
def test_a_channel_keeps_each_senders_order_within_its_capacity(kind, capacity, producers, sizes):
    got, deepest = engine_of(kind).run(get_all, capacity, producers, sizes)
    assert [len(g) for g in got] == sizes  # also where a size exceeds the capacity
    assert deepest <= capacity
    for producer in range(producers):
        mine = [item for batch in got for index, item in batch if index == producer]
        assert mine == list(range(len(mine)))  # nothing lost, nothing twice, nothing overtaken


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), capacity=st.integers(1, 4), count=st.integers(1, 12))
def test_drop_oldest_keeps_the_newest_and_counts_the_rest(kind, capacity, count):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "learner", "learner", capacity, when_full="drop_oldest")
            for item in range(count):
                channel.put(item)
            return channel.get(min(count, capacity)), channel.dropped

    engine = engine_of(kind)
    kept, dropped = engine.run(program)
    assert kept == list(range(count))[-capacity:]
    assert dropped == max(0, count - capacity) == engine.drops().get("ITEM", 0)


@on_every_engine
def test_waiting_consumers_are_served_in_the_order_they_came(kind):
    def consume(index, turns, asks, served):
        turns.get()
        served.put((index, asks.get()[0]))

    def program():
        with system("s", "learner") as s:
            turns = s.channel("TURN", "learner", "reader", 1)
            asks = s.channel("ITEM", "learner", "reader", 4)
            served = s.channel("SERVED", "reader", "learner", 4)
            order = []
            s.spawn("reader", 3, consume, turns, asks, served)
            for _ in range(3):  # one more reader waits after each turn; who it is does not matter
                turns.put(None)
                while len(asks._getters) <= len(order):
                    phase("look", pause, kind)
                order = [w.index for w in asks._getters]
            for item in range(3):
                asks.put(item)
            return order, sorted(served.get(3), key=lambda pair: pair[1])

    order, served = engine_of(kind).run(program)
    assert [index for index, _ in served] == order


@on_every_engine
def test_by_sender_sorts_by_index_and_keeps_each_order(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 2)
            s.spawn("actor", 3, put_all, channel, range(2))
            return channel.get(6, by_sender=True)

    assert engine_of(kind).run(program) == [(i, k) for i in range(3) for k in range(2)]


@on_every_engine
def test_ended_sources_end_a_get_and_leave_the_rest(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 1)
            s.spawn("actor", 2, put_all, channel, range(2))
            first = channel.get(3)
            with pytest.raises(Ended, match=r"get ITEM: every actor of /s has ended, 1 of 2 came"):
                channel.get(2)
            return first + channel.get(1)

    assert sorted(engine_of(kind).run(program)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@on_every_engine
def test_an_ended_consumer_ends_a_put(kind):
    def once(index, channel):
        channel.get()

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "learner", "reader", 1)
            s.spawn("reader", 1, once, channel)
            while True:
                channel.put(0)

    with pytest.raises(Ended, match="put ITEM: every reader of /s has ended"):
        engine_of(kind).run(program)


@on_every_engine
def test_ended_passes_along_a_chain_of_workers(kind):
    def forward(index, source, target):
        while True:
            target.put(source.get()[0])

    def program():
        with system("s", "learner") as s:
            first = s.channel("A", "actor", "middle", 1)
            second = s.channel("B", "middle", "learner", 1)
            s.spawn("actor", 1, put_all, first, range(3))
            s.spawn("middle", 1, forward, first, second)
            got = []
            with pytest.raises(Ended):
                while True:
                    got += second.get()
            return [item for _, item in got]

    assert engine_of(kind).run(program) == [0, 1, 2]


@on_every_engine
def test_items_older_than_max_lag_are_discarded_and_counted(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            channel = s.channel("TRAJ", "learner", "learner", 8, versions=params, max_lag=1)
            for version in (0, 1, 2, 3, 4):
                channel.put(version, version)
                params.publish(0)
            return channel.get(1), channel.stale

    engine = engine_of(kind)
    assert engine.run(program) == ([4], 4)
    assert row(engine, "TRAJ")["lag_max"] == 1
    assert row(engine, "TRAJ")["count"] == 5  # they crossed, though nobody read them


@on_every_engine
def test_select_serves_the_wire_that_waited_longest(kind):
    def program():
        with system("s", "both") as s:
            a = s.channel("A", "both", "both", 9)
            b = s.channel("B", "both", "both", 9)
            for k in range(3):
                a.put(k)
                b.put(k)
            chosen = []
            for _ in range(6):
                wire = (a, b)[select(a.can_get, b.can_get)]
                chosen.append(wire.message)
                wire.get()
            return "".join(chosen)

    assert engine_of(kind).run(program) == "ABABAB"


@on_every_engine
def test_select_waits_for_whichever_comes(kind):
    def program():
        with system("s", "learner") as s:
            quiet = s.channel("QUIET", "other", "learner", 1)
            busy = s.channel("BUSY", "actor", "learner", 1)
            s.spawn("actor", 1, put_all, busy, range(4))
            got = []
            for _ in range(4):
                assert select(quiet.can_get, busy.can_get) == 1
                got += busy.get()
            assert select(quiet.can_get, busy.can_get) == 1  # the actor has ended: its wire is ready to say so
            return [item for _, item in got]

    assert engine_of(kind).run(program) == [0, 1, 2, 3]
