# SPDX-License-Identifier: Apache-2.0
"""What becomes of a run on Ray when an actor, a raylet or the head is killed."""

import os
import signal

import numpy as np
import pytest

from cluster.raylets import Raylets
from cluster.runs import resume, start
from shoal.records import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def raylets(tmp_path_factory):
    """A head without room for actors, and two nodes that each have room for three."""
    cluster = Raylets(tmp_path_factory.mktemp("r"), hosts=("127.0.0.2", "127.0.0.3", "127.0.0.4"), cpus=3, head_cpus=0)
    yield cluster
    cluster.close()


def test_killed_actors_are_started_anew(raylets, tmp_path):
    run = start(raylets, tmp_path, env_steps=6_000)
    for _ in range(3):
        run.until(lambda: len(run.stepping()) >= 4 and run.steps())
        before = run.steps()
        os.kill(run.stepping()[0], signal.SIGKILL)
        run.until(lambda before=before: run.steps() > before)
    assert run.end() == 0, run.said()
    run.is_whole(6_000)
    assert run.log().count("restarted: WorkerDied") == 3


def test_when_a_raylet_is_killed_its_actors_go_elsewhere(raylets, tmp_path):
    run = start(raylets, tmp_path, env_steps=40_000)
    run.until(lambda: len(run.stepping()) >= 4 and run.steps())
    lost, before = "127.0.0.4", run.steps()
    raylets.kill_raylet(lost)
    run.until(lambda: "is gone" in run.log())
    run.until(lambda: len(run.stepping()) >= 4 and run.steps() > before + 500)
    raylets.start_node("127.0.0.5", 3)  # a node joins, and gets those that have no room of their own
    run.until(lambda: "moves from node" in run.log())
    assert run.end() == 0, run.said()
    run.is_whole(40_000)


def test_when_the_head_is_lost_the_run_stops_and_goes_on_elsewhere(raylets, tmp_path, tmp_path_factory):
    run = start(raylets, tmp_path, env_steps=40_000)
    run.until(lambda: run.steps() > 1_000)
    raylets.kill_head()
    assert run.end(60) == 1
    assert "head" in run.said()
    assert "resume" in run.said()
    stopped = run.steps()
    run.is_whole(1_000)
    another = Raylets(tmp_path_factory.mktemp("s"), hosts=("127.0.0.6", "127.0.0.7"), cpus=4)
    try:
        again = resume(another, tmp_path)
        assert again.end() == 0, again.said()
    finally:
        another.close()
    assert stopped < 40_000
    again.is_whole(40_000)


def test_in_fixed_order_what_goes_on_elsewhere_is_exact(raylets, tmp_path, tmp_path_factory):
    settings = {"env_steps": 2_000, "order": "fixed", "num_actors": 2}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = start(raylets, tmp_path / "a", **settings)
    assert whole.end() == 0, whole.said()
    run = start(raylets, tmp_path / "b", **settings)
    run.until(lambda: run.steps() > 700)
    raylets.kill_head()
    assert run.end(60) == 1
    assert checkpoint.load_latest(run.folder / "checkpoints").meta["level"] == "exact"
    another = Raylets(tmp_path_factory.mktemp("s"), hosts=("127.0.0.6", "127.0.0.7"), cpus=4)
    try:
        again = resume(another, tmp_path / "b")
        assert again.end() == 0, again.said()
    finally:
        another.close()
    first, second = (checkpoint.load_latest(r.folder / "checkpoints").arrays for r in (whole, again))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
