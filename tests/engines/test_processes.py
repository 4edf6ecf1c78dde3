# SPDX-License-Identifier: Apache-2.0
"""Channels whose workers are processes: what holds on every engine holds here, for arrays in shared memory as well."""

import time

import numpy as np
import pytest

from engines import programs
from engines.running import PROCESSES, engine_of, row, workers_left
from shoal.engines import Ended, system

on_both = pytest.mark.parametrize("kind", PROCESSES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@on_both
@pytest.mark.parametrize(("capacity", "producers", "sizes"), [(1, 1, [1, 1]), (2, 3, [5, 1, 4]), (5, 2, [9, 3])])
def test_a_channel_keeps_each_senders_order_within_its_capacity(kind, capacity, producers, sizes):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", capacity)
            s.spawn("actor", producers, programs.put_all, channel, sum(sizes))
            got, deepest = [], 0
            for size in sizes:
                deepest = max(deepest, len(channel._items))
                got.append(channel.get(size))
            return got, deepest

    got, deepest = engine_of(kind).run(program)
    assert [len(g) for g in got] == sizes
    assert deepest <= capacity
    for producer in range(producers):
        mine = [item for batch in got for index, item in batch if index == producer]
        assert mine == list(range(len(mine)))


@on_both
def test_by_sender_sorts_by_index_and_keeps_each_order(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 2)
            s.spawn("actor", 3, programs.put_all, channel, 2)
            return channel.get(6, by_sender=True)

    assert engine_of(kind).run(program) == [(i, k) for i in range(3) for k in range(2)]


ITEMS = [
    None,
    {"a": np.arange(6.0).reshape(2, 3), "b": [np.float32(1.5), ("x", np.zeros((0, 4), np.int8))]},
    np.arange(programs.BIG, dtype=np.int16),
    {"large": np.ones((100, 100)), "flags": np.array([True, False]), "nan": float("nan")},
    programs.make_item(1, 2, 3),
    [np.array(7), "text", 3, True, {"k": None, 1: 2}],
]


def equal(a, b) -> bool:
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


@on_both
def test_items_arrive_as_they_were_put_in_every_direction(kind):
    """main > first > second > main: from a process to another, and to and from this one."""

    def program():
        with system("s", "learner") as s:
            given = s.channel("A", "learner", "first", len(ITEMS))
            passed = s.channel("B", "first", "second", 1)
            back = s.channel("C", "second", "learner", 1)
            s.spawn("first", 1, programs.forward, given, passed)
            s.spawn("second", 1, programs.forward, passed, back)
            for item in ITEMS:
                given.put(item)
            return back.get(len(ITEMS))

    engine = engine_of(kind)
    got = engine.run(program)
    assert all(map(equal, ITEMS, got))
    assert row(engine, "A")["bytes"] == row(engine, "B")["bytes"] == row(engine, "C")["bytes"] > 100_000


@on_both
def test_what_was_got_belongs_to_who_got_it(kind):
    """It may be written to, which changes nobody else's, and is good for as long as it is kept."""

    def program():
        with system("s", "learner") as s:
            given = s.channel("A", "learner", "other", 1)
            back = s.channel("B", "other", "learner", 1)
            s.spawn("other", 1, programs.forward_changed, given, back)
            mine, got = {"a": np.zeros(programs.BIG)}, []
            for _ in range(10):
                given.put(mine)
                got += back.get()
                mine["a"] += 10
                got[-1]["a"][0] += 0.5
            return mine, got

    mine, got = engine_of(kind).run(program)
    assert (mine["a"] == 100).all()
    assert [(item["a"][0], item["a"][1], item["a"].std() > 0) for item in got] == [
        (10 * count + 1.5, 10 * count + 1, True) for count in range(10)
    ]


@on_both
def test_ended_sources_end_a_get_and_leave_the_rest(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 1)
            s.spawn("actor", 2, programs.put_all, channel, 2)
            first = channel.get(3)
            with pytest.raises(Ended, match=r"get ITEM: every actor of /s has ended, 1 of 2 came"):
                channel.get(2)
            return first + channel.get(1)

    assert sorted(engine_of(kind).run(program)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@on_both
def test_an_ended_consumer_ends_a_put_here_and_there(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "learner", "reader", 1)
            s.spawn("reader", 1, programs.get_once, channel)
            with pytest.raises(Ended, match="put ITEM: every reader of /s has ended"):
                while True:
                    channel.put(0)
            between = s.channel("BETWEEN", "actor", "taker", 1)
            finished = s.channel("FINISHED", "actor", "learner", 1)
            s.spawn("taker", 1, programs.get_once, between)
            s.spawn("actor", 2, programs.produce, between)
            with pytest.raises(Ended, match="every actor of /s has ended"):  # Ended ended them, as it should
                finished.get()
            return True

    assert engine_of(kind).run(program)


@on_both
def test_ended_passes_along_a_chain_of_workers(kind):
    def program():
        with system("s", "learner") as s:
            first = s.channel("A", "actor", "middle", 1)
            second = s.channel("B", "middle", "learner", 1)
            s.spawn("actor", 1, programs.put_all, first, 3)
            s.spawn("middle", 1, programs.forward, first, second)
            got = []
            with pytest.raises(Ended):
                while True:
                    got += second.get()
            return [item for _, item in got]

    assert engine_of(kind).run(program) == [0, 1, 2]


@on_both
def test_drop_oldest_keeps_the_newest_and_counts_the_rest(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "actor", 2, when_full="drop_oldest")
            results = s.channel("RESULT", "actor", "learner", 1)
            s.spawn("actor", 1, programs.count_drops, channel, results)
            return results.get()[0]

    engine = engine_of(kind)
    assert engine.run(program) == (5, [5, 6])
    assert engine.drops() == {"ITEM": 5}
    assert {r["via"] for r in engine.rows() if r["message"] == "ITEM" and r["count"]} == {"call"}


@on_both
def test_dropped_items_give_their_memory_back(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 2, when_full="drop_oldest")
            results = s.channel("READY", "actor", "learner", 1)
            s.spawn("actor", 1, programs.put_given, channel, [np.full(programs.BIG, count) for count in range(40)])
            with pytest.raises(Ended):
                results.get()
            return [int(item[0]) for item in channel.get(2)]

    engine = engine_of(kind)
    assert engine.run(program) == [38, 39]
    assert engine.drops() == {"ITEM": 38}


@on_both
def test_items_older_than_max_lag_are_discarded_and_counted(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            channel = s.channel("TRAJ", "learner", "learner", 8, versions=params, max_lag=1)
            for version in (0, 1, 2, 3, 4):
                channel.put(np.full(programs.BIG, version), version)
                params.publish(0)
            return int(channel.get(1)[0][0]), channel.stale

    engine = engine_of(kind)
    assert engine.run(program) == (4, 4)
    assert row(engine, "TRAJ")["count"] == 5


@on_both
def test_select_in_a_process_serves_the_wire_that_waited_longest(kind):
    def program():
        with system("s", "learner") as s:
            a = s.channel("A", "learner", "both", 9)
            b = s.channel("B", "learner", "both", 9)
            chosen = s.channel("CHOSEN", "both", "learner", 9)
            for k in range(3):
                a.put(k)
                b.put(10 + k)
            s.spawn("both", 1, programs.select_by_turns, a, b, chosen)
            return chosen.get(6)

    assert engine_of(kind).run(program) == [(True, 0), (False, 10), (True, 1), (False, 11), (True, 2), (False, 12)]


def test_a_producer_is_never_more_than_one_item_ahead_of_a_full_channel(tmp_path):
    """Its put is done by its shadow, later; but it may not run on and fill the memory meanwhile."""
    path = tmp_path / "begun"

    def begun():
        return int(path.read_text() or 0) if path.exists() else 0

    def settled(count):
        """How many items it has begun a little after it has begun so many."""
        until = time.monotonic() + 60
        while begun() < count and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.2)
        return begun()

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ITEM", "actor", "learner", 2)
            s.spawn("actor", 1, programs.produce_marking, channel, str(path))
            first = settled(4)
            for count in range(5):
                assert (channel.get()[0] == count).all()
            return [first, settled(9)]

    # two in the channel, one that waits for room, one that waits for that one
    assert engine_of("processes").run(program) == [4, 9]
