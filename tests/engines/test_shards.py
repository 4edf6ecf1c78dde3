# SPDX-License-Identifier: Apache-2.0
"""Shards of a shared vector on the nodes of a cluster: the rule as it is, nothing lost, nothing through main."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from clusters import LocalCluster
from engines import programs, shard_programs
from engines.running import engine_of, row, workers_left
from shoal.engines import RoleFailed, make_engine, system
from shoal.engines.cluster.fleet import Node, NodeLost
from shoal.engines.cluster.spread import SMALL, shares_of
from shoal.learners.host_rules import Adam, RmsProp, Sgd

SIZE = 3 * SMALL + 5
"""numbers of a vector that two nodes hold"""


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def run(work, *args, workers=1, kind="cluster", engine=None, size=SIZE, visit=None, **settings):
    """(what workers told, params, the engine, the vector) after `workers` did `work` with a vector [size] of zeros."""
    kept = []

    def program():
        with system("s", "server") as s:
            rule = settings.pop("rule", Sgd())
            vector = s.vector("server", np.zeros(size, np.float32), rule, source="worker", **settings)
            told = s.channel("TOLD", "worker", "server", workers)
            s.spawn("worker", workers, work, vector, told, *args)
            kept.append(vector)
            if visit is not None:
                visit(vector, told)
            return told.get(workers), vector.pull()[0], vector.moments()

    engine = engine or engine_of(kind)
    told, params, moments = engine.run(program)
    return told, params, moments, engine, kept[0]


@pytest.mark.parametrize("size", [100, SIZE])
@pytest.mark.parametrize("rule", [Sgd(), RmsProp(centred=True), Adam()], ids=lambda rule: type(rule).__name__)
def test_pushes_in_order_are_the_rule_bit_for_bit(rule, size):
    told, params, moments, engine, vector = run(
        shard_programs.push_all, 4, rule=rule, moments=rule.moments, shards=3, size=size
    )
    by_hand, rows = np.zeros(size, np.float32), np.zeros((rule.moments, size), np.float32)
    for grad in shard_programs.gradients(size, 4):
        rule(by_hand, rows, grad, 0.01)
    versions, pulled, seen, version, samples = told[0]
    assert (versions, version, samples) == ([1, 2, 3, 4], 4, 12)
    for found, expected in ((pulled, by_hand), (params, by_hand), (seen, rows), (moments, rows)):
        np.testing.assert_array_equal(found, expected)
    assert len(vector._shares) == 2


def test_workers_keep_moments_of_their_own():
    moments = np.zeros((2, 1, SIZE), np.float32)
    _, params, moments, _, _ = run(
        shard_programs.push_ones, 3, workers=2, rule=RmsProp(epsilon=1.0), moments=moments, shards=2
    )
    by_hand = np.zeros((1, SIZE), np.float32)
    each = np.zeros(SIZE, np.float32)
    for _ in range(3):
        RmsProp(epsilon=1.0)(each, by_hand, np.ones(SIZE, np.float32), 1.0)
    np.testing.assert_array_equal(moments, [by_hand, by_hand])
    np.testing.assert_allclose(params, 2 * each, rtol=1e-6)


@pytest.mark.parametrize("size", [100, SIZE])
def test_pushes_side_by_side_lose_nothing(size):
    rule = shard_programs.add_slowly
    told, params, _, engine, vector = run(shard_programs.push_ones, 10, workers=4, rule=rule, shards=3, size=size)
    np.testing.assert_array_equal(params, np.full(size, 40.0))
    grad, pulled = row(engine, "GRAD"), row(engine, "PARAM")
    assert (grad["count"], grad["bytes"]) == (40, 40 * 4 * size)
    assert (grad["source"], grad["target"], grad["via"]) == ("worker", "server", "network")
    assert 0 <= grad["lag_mean"] <= grad["lag_max"] < 40
    assert (pulled["count"], pulled["bytes"]) == (40, 40 * 4 * size)
    assert (pulled["source"], pulled["target"]) == ("server", "worker")
    assert engine.phases()["worker"]["push"] > 0


@pytest.mark.parametrize("shards", [1, 2])
def test_old_gradients_are_rejected_and_counted_as_on_processes(shards):
    found = {}
    for kind in ("processes", "cluster"):
        told, params, _, engine, _ = run(
            shard_programs.pull_old, 5, kind=kind, rule=programs.add, max_lag=1, shards=shards, size=10
        )
        rows = [{**r, "via": None} for r in engine.rows()]
        found[kind] = told, params.tolist(), rows
    assert found["cluster"] == found["processes"]
    assert found["cluster"][0] == [(2, 3, 25)]


def test_params_of_a_version_have_its_pushes_in_them():
    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(SIZE, np.float32), Sgd(), source="worker")
            told = s.channel("TOLD", "worker", "server", 2)
            short = s.channel("SHORT", "reader", "server", 1)
            s.spawn("reader", 1, shard_programs.see_whole_pushes, vector, short, 50)
            s.spawn("worker", 2, shard_programs.push_ones, vector, told, 40)
            for version in (10, 30, 60):
                flat, newest = vector.pull(at_least=version)
                assert newest >= version
                assert -flat.max() >= version
            told.get(2)
            return short.get()

    assert engine_of("cluster").run(program) == [0]


def test_a_version_that_comes_before_its_wish_is_known_is_not_waited_for():
    """The push is counted after main has looked, and before the nodes know that it waits."""

    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(SIZE, np.float32), Sgd(), source="worker")
            told, go = s.channel("TOLD", "worker", "server", 2), s.channel("GO", "server", "worker", 1)
            s.spawn("worker", 1, shard_programs.push_when_told, vector, told, go)
            want = vector.holders.want

            def want_late(version, *, waits=True):
                if waits:
                    go.put(1)
                    told.get(2)
                return want(version, waits=waits)

            vector.holders.want = want_late
            return [vector.pull(at_least=version)[1] for version in (1, 2)]

    assert engine_of("cluster").run(program) == [1, 2]


def test_both_nodes_hold_shards_and_main_moves_none():
    count, size = 20, 100_000
    with counted_bytes() as moved:
        _, params, _, engine, vector = run(shard_programs.push_ones, count, workers=2, size=size)
    assert params[0] == -2 * count
    assert {share.address for share in vector._shares} == {node.shards for node in engine.cluster.fleet.live}
    crossed = row(engine, "GRAD")["bytes"] + row(engine, "PARAM")["bytes"]
    assert crossed == 2 * 2 * count * 4 * size
    made_and_looked_at = 2 * 4 * size
    assert sum(moved) < made_and_looked_at + 200_000


@contextmanager
def counted_bytes():
    """Bytes that this process sends and receives over sockets of the cluster."""
    from shoal.engines.cluster.frames import Stream

    moved, send, receive = [], Stream.send, Stream.receive_data

    def counted_send(stream, header, data=b""):
        moved.append(len(data) if not isinstance(data, memoryview) else data.nbytes)
        send(stream, header, data)

    def counted_receive(stream, memory):
        moved.append(memoryview(memory).nbytes)
        receive(stream, memory)

    Stream.send, Stream.receive_data = counted_send, counted_receive
    try:
        yield moved
    finally:
        Stream.send, Stream.receive_data = send, receive


@pytest.mark.parametrize("size", [100, SIZE])
def test_connections_that_break_lose_no_push_and_do_none_twice(size):
    _, params, _, engine, _ = run(shard_programs.push_over_broken_connections, 10, size=size, max_lag=100)
    np.testing.assert_array_equal(params, np.full(size, -10.0))
    assert row(engine, "GRAD")["count"] == 10


def test_pushes_of_killed_workers_are_done_and_counted_or_not_at_all():
    told, params, _, engine, vector = run(shard_programs.push_and_be_killed, 5, workers=2, size=100)
    assert sorted(told) == [(0, 2), (1, 2)]
    assert len(engine.losses()) == 4
    count = row(engine, "GRAD")["count"]
    assert 18 <= count <= 22  # two lives of two or three pushes, and one of five, of each
    np.testing.assert_array_equal(params, np.full(100, -count))


def test_a_rule_that_fails_on_a_node_is_told_in_one_line():
    with pytest.raises(Exception, match="worker/0 failed: ValueError: no such rule") as caught:
        run(shard_programs.push_ones, 1, rule=refuse, size=SIZE)
    assert "\n" not in str(caught.value)
    assert run(shard_programs.push_ones, 1)[1][0] == -1  # the nodes go on


def refuse(params, moments, grad, rate):
    raise ValueError("no such rule")


def led(engine, leaders, *args):
    """What leaders of systems within a system told."""

    def program():
        with system("outer", "judge") as s:
            told = s.channel("TOLD", "server", "judge", 2 * leaders)
            s.spawn("server", leaders, shard_programs.lead, told, SIZE, *args)
            return told.get(2 * leaders, by_sender=True)

    return engine.run(program)


def test_workers_own_systems_have_vectors_on_nodes_too():
    engine = engine_of("cluster")
    told = led(engine, 2, shard_programs.push_ones, 5)
    for params, version in told[1::2]:
        assert version == 10
        np.testing.assert_array_equal(params, np.full(SIZE, -10.0))
    assert row(engine, "GRAD")["count"] == 20


@pytest.fixture
def nodes_to_lose():
    cluster = LocalCluster(2)
    yield cluster
    cluster.close()


def test_a_lost_node_that_holds_shards_ends_the_run_in_one_line(nodes_to_lose):
    engine = make_engine("ray", "free", cluster=nodes_to_lose)
    told = threading.Event()
    killer = threading.Thread(target=lambda: (told.wait(60), nodes_to_lose.lose("node1")))

    def visit(vector, channel):
        channel.get(4)
        told.set()
        while True:
            channel.get()
            vector.pull()

    killer.start()
    with pytest.raises(NodeLost, match="node node1, which was killed, held a part of the parameter") as caught:
        run(shard_programs.push_forever, workers=2, engine=engine, visit=visit)
    killer.join()
    assert "\n" not in str(caught.value)
    assert "shoal resume" in str(caught.value)
    assert engine.rows()


def wait_for(path):
    """Until a file is there."""
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)


def test_a_lost_node_ends_the_system_of_a_worker_too(nodes_to_lose, tmp_path):
    begun = tmp_path / "begun"
    engine = make_engine("ray", "free", cluster=nodes_to_lose)
    killer = threading.Thread(target=lambda: (wait_for(begun), nodes_to_lose.lose("node1")))
    killer.start()
    with pytest.raises(RoleFailed, match="node1, which was killed, held a part of the .* of /outer/inner") as caught:
        led(engine, 1, shard_programs.push_until_killed, str(begun))
    killer.join()
    assert "\n" not in str(caught.value)


def test_a_lost_node_that_holds_none_costs_its_workers_only(nodes_to_lose):
    engine = make_engine("ray", "free", cluster=nodes_to_lose)

    def visit(vector, channel):
        (holder,) = vector._nodes
        channel.get(4)
        (other,) = {"node0", "node1"} - {holder.name}
        there = sum(place["node"] == other for place in engine.pids)  # two that start at once may be on one node
        nodes_to_lose.lose(other)
        while len(engine.losses()) < there or len(engine.pids) < 2 + there:
            channel.get()
        channel.get(6)

    _, params, _, _, _ = run(shard_programs.push_forever, workers=2, engine=engine, visit=visit, size=100)
    assert params.max() == params.min() < 0


def test_the_main_process_pushes_and_exchanges_as_anybody():
    def program(locked):
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(SIZE), programs.rms, moments=1, locked=locked)
            if locked:
                rows, version = vector.exchange(np.ones(SIZE), 0, 1.0, 7)
                return rows, version, vector.samples
            return vector.push(np.ones(SIZE), 0, 1.0, 7), vector.pull(), vector.moments(), vector.samples

    engine = engine_of("cluster")
    rows, version, samples = engine.run(program, True)
    by_hand, moments = np.zeros(SIZE), np.zeros((1, SIZE))
    programs.rms(by_hand, moments, np.ones(SIZE), 1.0)
    np.testing.assert_array_equal(rows, [by_hand, moments[0]])
    assert (version, samples) == (1, 7)
    after, (params, version), found, samples = engine_of("cluster").run(program, False)
    assert (after, version, samples) == (1, 1, 7)
    np.testing.assert_array_equal(params, by_hand)
    np.testing.assert_array_equal(found, moments)


@pytest.mark.parametrize(
    ("size", "shards", "held"),
    [
        (10, 1, [(0, 10, 1)]),
        (10, 3, [(0, 3, 1), (3, 10, 2)]),
        (4 * SMALL, 1, [(0, 2 * SMALL, 1), (2 * SMALL, 4 * SMALL, 1)]),
    ],
)  # fmt: skip
def test_neighbouring_shards_lie_together_at_least_one_a_node(size, shards, held):
    nodes = []
    for name in ("a", "b"):
        node = Node(name, None)
        node.shards = (name, 1)
        nodes.append(node)
    shares = shares_of(size, shards, nodes, 0)
    assert [tuple(share[1:]) for share in shares] == held
    assert [share.address[0] for share in shares] == ["a", "b"][: len(held)]
    assert shares_of(size, shards, nodes, 1)[0].address[0] == "b"
