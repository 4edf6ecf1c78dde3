# SPDX-License-Identifier: Apache-2.0
"""Wires on every engine: order, capacity, versions, batches, and the end of the other side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.running import FIXED, KINDS, engine_of, row
from shoal.engines import Ended, nbytes, phase, select, system
from shoal.errors import ConfigError, ShoalError

on_every_engine = pytest.mark.parametrize("kind", KINDS)


def work(*args):
    """What a phase does here."""
    return args


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


def pause(kind):
    """Let the other threads run."""
    if kind == "threads":
        import time

        time.sleep(0.001)


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
def test_a_store_keeps_versions_for_those_behind(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", "v5", version=5, keep=3)
            early = params.pull(behind=2)
            for version in (6, 7, 8):
                assert params.publish(f"v{version}") == version
            with pytest.raises(ConfigError, match="keep=4"):
                params.pull(behind=3)
            return early, params.pull(), params.pull(behind=2)

    assert engine_of(kind).run(program) == (("v5", 5), ("v8", 8), ("v6", 6))


@on_every_engine
def test_params_are_counted_when_the_version_is_new_to_the_worker(kind):
    def pull_often(index, params, told):
        for _ in range(5):
            params.pull()
        params.pull(at_least=1)
        params.pull()
        told.put(index)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.zeros(4))
            told = s.channel("TOLD", "actor", "learner", 2)
            s.spawn("actor", 2, pull_often, params, told)
            while row(engine, "PARAM")["count"] < 2:
                phase("look", pause, kind)
            params.publish(np.zeros(4))
            told.get(2)

    engine = engine_of(kind)
    engine.run(program)
    assert (row(engine, "PARAM")["count"], row(engine, "PARAM")["bytes"]) == (4, 128)


@on_every_engine
def test_a_version_that_never_comes_ends_the_wait(kind):
    def owner(index, params):
        params.publish(1)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "owner", 0)
            s.spawn("owner", 1, owner, params)
            assert params.pull(at_least=1) == (1, 1)
            params.pull(at_least=2)

    with pytest.raises(Ended, match="pull PARAM: every owner of /s has ended, version 2 will not come"):
        engine_of(kind).run(program)


def ask(index, service, results, count):
    for k in range(count):
        results.put((service.call((index, k)), (index, k)))


def serve(batch, deadline_s, clients, count):
    sizes = []
    with system("s", "inference") as s:
        service = s.service("OBS", "ACT", "actor", "inference", batch, deadline_s)
        results = s.channel("RESULT", "actor", "inference", 1000)
        s.spawn("actor", clients, ask, service, results, count)
        with pytest.raises(Ended, match="take OBS: every actor of /s has ended"):
            while True:
                requests = service.take()
                sizes.append(len(requests))
                service.reply(requests, [(r.index, r.item[1]) for r in requests])
        return sizes, results.get(clients * count)


@on_every_engine
@pytest.mark.parametrize(("batch", "deadline_s"), [(1, 10.0), (2, 10.0), (3, 10.0), (100, 10.0), (100, 0.0)])
def test_a_service_answers_each_its_own(kind, batch, deadline_s):
    """With batch 100 and a long deadline only "every client waits" can end a batch; it must not last 10 s."""
    engine = engine_of(kind)
    sizes, results = engine.run(serve, batch, deadline_s, 3, 4)
    assert sum(sizes) == 12
    assert max(sizes) <= batch
    assert all(answer == question for answer, question in results)
    assert row(engine, "OBS")["count"] == row(engine, "ACT")["count"] == 12
    if batch == 100 and deadline_s == 10.0 and kind != "threads":
        assert sizes == [3, 3, 3, 3]


@pytest.mark.parametrize("kind", FIXED)
def test_a_deadline_is_in_virtual_time(kind):
    """One client asks at once, the other works for 5 units of 1 ms: a deadline of 2 ms comes between."""

    def busy(index, service):
        for _ in range(index * 5):
            phase("work", work)
        service.call(index)

    def program(deadline_s):
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, deadline_s)
            s.spawn("actor", 2, busy, service)
            requests = service.take()
            service.reply(requests, requests)
            return [r.index for r in requests]

    assert engine_of(kind).run(program, 0.002) == [0]
    assert engine_of(kind).run(program, 0.008) == [0, 1]


def test_a_deadline_on_threads_is_real():
    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, 0.01)
            idle = s.channel("IDLE", "inference", "actor", 1)
            s.spawn("actor", 2, first_asks, service, idle)
            requests = service.take()
            service.reply(requests, requests)
            return [r.index for r in requests]

    def first_asks(index, service, idle):
        if index == 0:
            service.call(0)
        else:
            phase("spin", spin_until, lambda: done)

    done = []

    def spin_until(check):
        import time

        while not check():
            time.sleep(0.001)

    engine = engine_of("threads")
    engine.join_seconds = 5
    import threading

    threading.Timer(1.0, done.append, (1,)).start()
    assert engine.run(program) == [0]


@on_every_engine
def test_an_answer_to_a_restarted_client_is_thrown_away(kind):
    def flaky(index, service, results):
        from shoal.engines import me

        if me().epoch == 0:
            service.send("lost")
            raise ValueError("after asking")
        results.put(service.call("asked anew"))

    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            results = s.channel("RESULT", "actor", "inference", 1)
            s.spawn("actor", 1, flaky, service, results, on_failure="restart")
            first = service.take()
            second = service.take()
            service.reply(first, ["too late"])
            service.reply(second, ["right"])
            return first[0].epoch, second[0].epoch, results.get()

    assert engine_of(kind).run(program) == (0, 1, ["right"])


@on_every_engine
def test_a_ticket_is_good_for_once(kind):
    def program():
        with system("s", "both") as s:
            service = s.service("OBS", "ACT", "both", "both", 1, 1.0)
            ticket = service.send(1)
            requests = service.take()
            service.reply(requests, [2])
            assert service.result(ticket) == 2
            service.result(ticket)

    with pytest.raises(ShoalError, match="a ticket is good for once"):
        engine_of(kind).run(program)


@on_every_engine
def test_a_vector_shares_its_moments(kind):
    def rms(params, moments, grad):
        moments[0] = 0.9 * moments[0] + 0.1 * grad**2
        params -= grad / np.sqrt(moments[0] + 1)

    def program():
        with system("s", "worker") as s:
            vector = s.vector("parameter_server", np.ones(5), rms, shards=2)
            p, version = vector.pull()
            vector.push(np.arange(5.0), version)
            vector.push(np.ones(5), version)
            return vector.pull()

    params, moments = np.ones(5), np.zeros((1, 5))
    rms(params, moments, np.arange(5.0))
    rms(params, moments, np.ones(5))
    engine = engine_of(kind)
    flat, version = engine.run(program)
    assert version == 2
    assert np.array_equal(flat, params)
    assert row(engine, "GRAD")["lag_max"] == 1


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


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s: s.channel("A", "x", "y", 0), "capacity 0"),
        (lambda s: s.channel("A", "x", "y", 1, when_full="drop"), "when_full='drop'"),
        (lambda s: s.channel("A", "x", "y", 1, max_lag=3), "no versions"),
        (lambda s: s.store("P", "x", 0, keep=0), "keeps 0"),
        (lambda s: s.service("O", "A", "x", "y", 0, 1.0), "batch 0"),
        (lambda s: s.vector("x", np.zeros((2, 2)), work), "flat params"),
        (lambda s: s.spawn("x", 1, work, on_failure="ignore"), "on_failure='ignore'"),
        (lambda s: select(), "at least one"),
    ],
)
def test_declarations_that_cannot_work_say_so_in_one_line(use, message):
    def program():
        with system("s", "body") as s:
            use(s)

    with pytest.raises(ConfigError, match=message) as caught:
        engine_of("inline").run(program)
    assert "\n" not in str(caught.value)


def test_a_side_belongs_to_its_role():
    def program():
        with system("s", "learner") as s:
            s.channel("TRAJ", "actor", "learner", 1).put(0)

    with pytest.raises(ShoalError, match="/s learner/0 cannot put TRAJ: this side belongs to role 'actor'"):
        engine_of("inline").run(program)


def test_declared_wires_are_in_the_ledger_before_anything_crossed():
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            s.channel("TRAJ", "actor", "learner", 1, versions=params)
            s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            s.vector("parameter_server", np.zeros(2), work, source="actor")

    engine = engine_of("inline")
    engine.run(program)
    assert [(r["message"], r["source"], r["target"], r["count"]) for r in engine.rows()] == [
        ("PARAM", "learner", "*", 0),
        ("TRAJ", "actor", "learner", 0),
        ("OBS", "actor", "inference", 0),
        ("ACT", "inference", "actor", 0),
        ("PARAM", "parameter_server", "actor", 0),
        ("GRAD", "actor", "parameter_server", 0),
    ]


leaves = st.one_of(st.integers(0, 5).map(lambda n: np.zeros((n, 3), np.float32)), st.floats(), st.integers(), st.none())
trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=3) | st.tuples(t, t) | st.dictionaries(st.text(max_size=2), t, max_size=3)
)


@given(trees)
def test_payload_is_the_sum_over_leaves(tree):
    def flatten(x):
        if isinstance(x, dict):
            return [leaf for v in x.values() for leaf in flatten(v)]
        if isinstance(x, (list, tuple)):
            return [leaf for v in x for leaf in flatten(v)]
        return [x]

    sizes = [x.nbytes if isinstance(x, np.ndarray) else 0 if x is None else 8 for x in flatten(tree)]
    assert nbytes(tree) == sum(sizes)


def test_payload_of_a_broadcast_twin_is_what_it_stands_for():
    assert nbytes((np.broadcast_to(np.float32(0), (4, 5)), b"abc", True)) == 80 + 3 + 1
