# SPDX-License-Identifier: Apache-2.0
"""Where workers run, and the address at which others reach them there."""

import pytest

from clusters import HOSTS, LocalCluster, two_nodes
from engines import programs
from engines.running import engine_of
from shoal.engines import me, system
from shoal.processes.ports import LOOPBACK


def hosts_of(kind, count=4):
    """(the main process's own, those of `count` workers), as the workers see them; and their engine."""
    engine = engine_of(kind)

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", count)
            s.spawn("actor", count, programs.tell_host, channel)
            return me().host, dict(channel.get(count))

    return *engine.run(program), engine


@pytest.mark.parametrize("kind", ["processes", "processes-fixed"])
def test_workers_of_one_machine_are_reached_over_loopback(kind):
    own, found, _ = hosts_of(kind)
    assert {own, *found.values()} == {LOOPBACK}


@pytest.mark.parametrize("kind", ["cluster", "cluster-fixed"])
def test_workers_of_a_cluster_are_reached_at_their_node_s_address(kind):
    own, found, engine = hosts_of(kind)
    nodes = {place["index"]: place["node"] for place in engine.pids}
    assert own == LOOPBACK
    assert found == {index: HOSTS[int(node[-1])] for index, node in nodes.items()}
    assert set(found.values()) == set(HOSTS[:2])


def test_workers_of_a_role_are_spread_over_nodes_and_go_elsewhere_only_when_theirs_is_gone():
    cluster = LocalCluster(3)
    try:
        cluster.reserve("/s", "actor", 0, 2)
        cluster.reserve("/s", "learner", 1, 3)
        cluster.reserve("/s", "actor", 2, 1)
        learners = [cluster.node_for("/s", "learner", index).name for index in (1, 2, 3)]
        actors = [cluster.node_for("/s", "actor", index).name for index in (0, 1, 2)]
        assert sorted(learners) == sorted(actors) == ["node0", "node1", "node2"]
        cluster.lose(learners[0])
        assert cluster.node_for("/s", "learner", 1).name in learners[1:]
        assert [cluster.node_for("/s", "learner", index).name for index in (2, 3)] == learners[1:]
    finally:
        cluster.close()


def test_a_run_leaves_no_room_reserved():
    hosts_of("cluster")
    assert two_nodes()._homes == {}
