# SPDX-License-Identifier: Apache-2.0
"""Nodes that are lost and nodes that join; children that are killed; a main process that is; bad settings."""

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster.counting import Counting, answer, answer_once, ask, count, count_once_killed, params_of, pass_on
from cluster.losing import lose_later
from cluster.proxy import Weather
from clusters import LocalCluster, two_nodes
from shoal.engines import RoleFailed, make_engine, system
from shoal.engines.cluster import agent as agents
from shoal.engines.cluster.frames import Stream, dial
from shoal.engines.cluster.options import ClusterOptions
from shoal.errors import ConfigError, ShoalError
from shoal.training.clusters import check_cluster


@pytest.fixture
def cluster():
    """Nodes of this test alone."""
    one = LocalCluster(2)
    yield one
    one.close()


def nodes_of(engine, index: int) -> list[str]:
    """Where an actor's lives were spent."""
    return [place["node"] for place in engine.pids if place["index"] == index]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(pids, seconds: float) -> bool:
    """Whether none of them runs after so long."""
    until = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def descendants(pid: int) -> set[int]:
    """All processes below this one."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


# children


def test_a_killed_child_is_started_anew_and_its_loss_recorded():
    engine = make_engine("ray", cluster=two_nodes())
    tally = Counting(60, fn=count_once_killed, until=lambda tally: tally.lives == {0: 1, 1: 0}).on(engine)
    (loss,) = engine.losses()
    assert loss.startswith("/s actor/0 (epoch 0) restarted: WorkerDied: process ")
    assert "was killed by SIGKILL in phase 'die'" in loss
    assert tally.missing == 0
    assert tally.got[0, 0] <= 5
    assert engine.lost_messages() == {}  # what it had put lies on its node, which is there


def test_children_that_are_killed_leave_nothing_on_the_shelf():
    """Also what they had said last, which nobody hears."""
    cluster = LocalCluster(1)

    def kill_all() -> None:
        """All that have handed something over: who dies three times before it has is not started anew."""
        for shadow in [worker.shadow for worker in list(engine._workers)]:  # noqa: F821 deleted only at the end
            if shadow is not None and shadow.handed_over:
                shadow.child.kill()

    engine = make_engine("ray", cluster=cluster)
    Counting(200, at={n: kill_all for n in range(20, 180, 40)}).on(engine)
    assert len(engine.losses()) >= 4
    del engine
    left = shelf_of(cluster, "node0")
    cluster.close()
    assert left == 0


def shelf_of(cluster: LocalCluster, name: str, highest: int = 2000, seconds: float = 60.0) -> int:
    """Items on a node's shelf, by asking for all keys that there can be."""
    until = time.monotonic() + seconds
    stream = dial(cluster.fleet.nodes[name].shelf, cluster.fleet.secret)
    with contextlib.closing(stream):
        while True:
            gc.collect()  # what nobody refers to here is dropped there
            found = sum(not asked(stream, key) for key in range(1, highest))
            if not found or time.monotonic() > until:
                return found


def asked(stream: Stream, key: int) -> bool:
    """Whether nothing lies there under this key."""
    stream.send({"key": key, "squeezed": False})
    return stream.receive().header["lost"]


# nodes


def test_workers_of_a_lost_node_go_to_another_one(cluster):
    engine = make_engine("ray", cluster=cluster)

    def lose() -> None:
        """Once all actors are there."""
        while len(engine.pids) < 4:
            time.sleep(0.01)
        cluster.lose("node0")

    def moved_on(tally) -> bool:
        return len(tally.lives) == 4 and sum(tally.lives.values()) == 2

    tally = Counting(120, actors=4, at={40: lose}, until=moved_on, seconds=250.0).on(engine)
    moved = [index for index in range(4) if nodes_of(engine, index)[0] == "node0"]
    assert len(moved) == 2
    for index in range(4):
        assert nodes_of(engine, index) == (["node0", "node1"] if index in moved else ["node1"])
        assert tally.lives[index] == (index in moved)
    assert len(engine.losses()) == len(moved)
    assert all("ended with its node node0, which was killed" in loss for loss in engine.losses())
    assert tally.missing == 0
    assert sum(engine.lost_messages().values()) <= 4 + len(moved)
    assert cluster.notes == ["node node0 was killed"]


def test_what_lay_on_a_lost_node_is_counted():
    """Of what actors have put, nothing could be brought over before: the way to the node's shelf was cut."""
    weather = Weather()
    cluster = LocalCluster(2, lambda who, address: weather.via(who, address) if who == "shelf node0" else address)

    engine = make_engine("ray", cluster=cluster)

    def lose() -> None:
        lose_later(cluster, weather, engine, "node0", 1)

    until = {"until": lambda tally: len(tally.lives) == 2 and cluster.notes, "seconds": 250.0}
    with contextlib.closing(weather), contextlib.closing(cluster):
        tally = Counting(60, size=100_000, at={20: lose}, **until).on(engine)
    assert sum(tally.got.values()) >= 60
    assert 1 <= sum(engine.lost_messages().values()) <= 6
    assert tally.missing == 0  # the life that put them has ended; the next one begins at 0


@pytest.mark.parametrize("server", ["inference", "learner"])
def test_a_request_that_lay_on_a_lost_node_ends_neither_server_nor_run(server):
    """Be the server a child or the main process: the client asks again, from another node."""
    weathers = {"shelf node0": Weather(), "shelf node1": Weather()}
    cluster = LocalCluster(2, lambda who, address: weathers[who].via(who, address) if who in weathers else address)
    engine = make_engine("ray", cluster=cluster)

    def lose() -> None:
        """A node without a server, after its requests have become out of reach."""
        busy = {place["node"] for place in engine.pids if place["role"] == "inference"}
        name = next(name for name in ("node0", "node1") if name not in busy)
        lose_later(cluster, weathers[f"shelf {name}"], engine, name, 3)

    def program():
        with system("s", "learner") as s:
            results = s.channel("RETURN", "actor", "learner", 10_000)
            service = s.service("OBS", "ACT", "actor", server, 2, 0.05)
            if server == "inference":
                s.spawn("inference", 1, answer, service)
                s.spawn("actor", 4, ask, service, results, 5_000)
                came = set()
                while len(came) < 4:
                    came.update(index for index, _, _ in results.get())
                lose()
            else:
                s.spawn("actor", 4, ask, service, results, 5_000)
                for served in range(60):
                    answer_once(service)
                    if served == 20:
                        lose()
            while len(engine.losses()) < 2 or results.get()[0][1] == 0:
                if server == "learner":
                    answer_once(service)

    with contextlib.ExitStack() as closing:
        for one in (*weathers.values(), cluster):
            closing.callback(one.close)
        engine.run(program)
    assert engine.lost_messages()["OBS"] >= 1


def test_a_lost_node_ends_a_run_in_fixed_order_in_one_line(cluster):
    engine = make_engine("ray", "fixed", cluster=cluster)
    with pytest.raises(RoleFailed, match=r"^/s actor/\d failed: .*node node0, which was killed") as failed:
        Counting(100, at={30: lambda: cluster.lose("node0")}).on(engine)
    assert "\n" not in str(failed.value)


def test_a_node_that_joins_gets_workers_that_start_afterwards(cluster):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", params_of(0))
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, count, channel, params, 1000)
            channel.get(10)
            cluster.add("late")
            s.spawn("actor", 1, count, channel, params, 1000)
            while {item.index for item in channel.get(10)} != {0, 1, 2}:
                continue

    engine = make_engine("ray", cluster=cluster)
    engine.run(program)
    assert {*nodes_of(engine, 0), *nodes_of(engine, 1)} == {"node0", "node1"}
    assert nodes_of(engine, 2) == ["late"]


def test_a_node_that_joins_knows_which_nodes_are_gone(cluster):
    """It is told of an item that lay on one of them and says so, instead of waiting."""
    engine = make_engine("ray", cluster=cluster)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", params_of(0))
            first = s.channel("TRAJ", "actor", "middle", 20)
            second = s.channel("TRAJ2", "middle", "learner", 2)
            s.spawn("actor", 1, count, first, params, 100_000, 0.05)
            while len(first._items) < 3:
                time.sleep(0.01)
            cluster.lose(nodes_of(engine, 0)[0])
            while len(engine.pids) < 2:  # the actor is there again
                time.sleep(0.01)
            cluster.add("late")
            s.spawn("middle", 1, pass_on, first, second)
            return second.get(3)

    items = engine.run(program)
    assert [item.epoch for item in items] == [1, 1, 1]
    assert engine.pids[-1]["node"] == "late"
    assert engine.lost_messages()["TRAJ"] >= 3


@pytest.mark.filterwarnings("ignore:.* raised while it was being ended")
@pytest.mark.parametrize("order", ["free", "fixed"])
def test_a_run_without_any_node_ends_in_one_line(cluster, order):
    def lose_all() -> None:
        cluster.lose("node0")
        cluster.lose("node1")

    began = time.monotonic()
    with pytest.raises(ShoalError, match="no node of the cluster is left|ended with its node") as failed:
        Counting(100, at={20: lose_all}).on(make_engine("ray", order, cluster=cluster))
    assert "\n" not in str(failed.value)
    assert time.monotonic() - began < 60.0


def test_a_node_that_was_given_up_ends_when_it_comes_back(cluster):
    """So that what it still does is nobody's, and its machine is free."""
    cluster.fleet.lose("node0", "was given up")
    assert cluster.agents["node0"].wait(60) == 0


# the main process


MAIN = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from cluster.counting import Counting
from clusters import LocalCluster
from shoal.engines import make_engine
cluster = LocalCluster(2)
def say():
    sys.stdout.write("running\\n")
    sys.stdout.flush()
Counting(10**9, at={20: say}).on(make_engine("ray", cluster=cluster))
"""


def test_nothing_is_left_where_the_main_process_was_killed():
    command = [sys.executable, "-c", MAIN, json.dumps(sys.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as main:
        try:
            assert main.stdout.readline() == b"running\n"
            while len(below := descendants(main.pid)) < 6:  # two agents, their fork servers, two workers
                time.sleep(0.02)
        finally:
            main.kill()
    assert all_end(below, agents.ORPHANED_S + 60.0)


def agent_of(address, monkeypatch, **limits: float) -> threading.Thread:
    """An agent in a thread, which leaves this process's output alone."""
    for name, seconds in limits.items():
        monkeypatch.setattr(agents, name, seconds)
    monkeypatch.setattr(agents.Agent, "_pass_on", lambda self, descriptor: None)
    agent = agents.Agent("n", address, b"secret", "127.0.0.1", [])
    running = threading.Thread(target=agent.run, daemon=True)
    running.start()
    return running


def test_an_agent_is_patient_while_packets_vanish_and_not_where_nobody_listens(monkeypatch):
    monkeypatch.setattr("shoal.engines.cluster.frames.HELLO_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and never says a word
        address = server.getsockname()
        running = agent_of(address, monkeypatch, ORPHANED_S=0.3, AGAIN_S=0.05)
        running.join(1.5)
        assert running.is_alive()
    running.join(60)
    assert not running.is_alive()


def test_an_agent_is_not_patient_for_ever(monkeypatch):
    monkeypatch.setattr("shoal.engines.cluster.frames.HELLO_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = agent_of(server.getsockname(), monkeypatch, GIVE_UP_S=0.5)
        running.join(60)
        assert not running.is_alive()


def test_an_agent_that_nobody_expects_ends(cluster, monkeypatch):
    monkeypatch.setattr("shoal.engines.cluster.agent.dial", lambda address, _: dial(address, cluster.fleet.secret))
    running = agent_of(cluster.fleet.address, monkeypatch)
    running.join(60)
    assert not running.is_alive()


# settings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"actor_cpus": 0.0}, "actor_cpus=0.0 must be above 0 and finite; change --actor-cpus"),
        ({"actor_cpus": -1.0}, "actor_cpus=-1.0 must be above 0 and finite; change --actor-cpus"),
        ({"actor_cpus": float("inf")}, "actor_cpus=inf must be above 0 and finite; change --actor-cpus"),
        ({"actor_cpus": float("nan")}, "actor_cpus=nan must be above 0 and finite; change --actor-cpus"),
        ({"compress": "zip"}, "compress='zip' is unknown: use auto, always or never"),
        *[
            ({"address": address}, f"address={address!r} is no host:port; give that of the head, or auto")
            for address in ("", "host", "host:", ":6379", "host:0", "host:65536", "host:port", "ray://host:10001/")
        ],
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, text):
    with pytest.raises(ConfigError) as refused:
        ClusterOptions(**settings)
    assert str(refused.value) == text
    with pytest.raises(ConfigError):
        check_cluster(settings, "ray")


def test_settings_that_can_be_are_kept():
    for address in (None, "auto", "127.0.0.1:6379", "head:6379", "[::1]:6379"):
        fields = ClusterOptions(address=address, actor_cpus=0.5, compress="never").fields
        assert ClusterOptions.given(fields).fields == fields
    assert ClusterOptions.given(None) == ClusterOptions()


@pytest.mark.parametrize("engine", ["inline", "threads", "processes", "simulated"])
def test_a_cluster_is_for_the_engine_ray_alone(engine):
    text = f"address=auto is for --engine ray, and this run is on {engine}; leave it out"
    with pytest.raises(ConfigError, match=f"^{text}$"):
        check_cluster({"address": "auto"}, engine)
    assert check_cluster(None, engine) is None
    assert check_cluster({}, engine) is None


def test_packing_always_needs_the_library(monkeypatch):
    monkeypatch.setattr("shoal.engines.cluster.squeeze.has_lz4", lambda: False)
    with pytest.raises(ConfigError, match=r"^compress=always needs the package lz4: pip install 'shoal\[ray\]', or "):
        ClusterOptions(compress="always")
