# SPDX-License-Identifier: Apache-2.0
"""Learners in processes of their own: the same numbers as in one process, and an end when one of them dies."""

import os
import signal
import socket

import jax
import numpy as np
import pytest

from architectures.small import config_of, parts_of, run_small
from engines.running import all_end
from shoal.architectures import registry
from shoal.architectures.assemble import preloads
from shoal.architectures.joint import loss_in, others_there
from shoal.architectures.optimisation import require_processes_of_learners
from shoal.engines import LearnerLost, MessageLost, RoleFailed, make_engine
from shoal.errors import ConfigError, ShoalError
from shoal.learners import meeting
from shoal.learners.meeting import meet
from shoal.placement.flow import flow_of
from shoal.processes.ports import LOOPBACK, free_address

JOINT = {"learners": 2, "learner_processes": 2}


def refuse_orphans(engine):
    """Workers' processes are gone, or will be as soon as the fork server has looked."""
    assert all_end([place["pid"] for place in engine.pids])


def same_updates(architecture, engine="processes", **fields):
    """Params after each of a few updates by two processes, and by one."""
    fields = {"learners": 2, "normalise_obs": True, **fields}
    joint = run_small(architecture, engine, updates=3, learner_processes=2, **fields)
    alone = run_small(architecture, "inline", updates=3, learner_devices=1, **fields)
    for mine, other in zip(joint.states, alone.states, strict=True):
        assert mine[2:] == other[2:]
    assert agree(joint, alone)
    return joint


def agree(joint, alone):
    """Whether the first and the last update gave the same params."""
    return all(
        np.allclose(mine, other, rtol=rtol, atol=atol)
        for mine, other, rtol, atol in (
            (joint.states[0].params, alone.states[0].params, 1e-5, 1e-6),
            (joint.params, alone.params, 1e-4, 1e-5),
        )
    )


def nodes_of(engine, role):
    """The node of every worker of a role."""
    return {place["node"] for place in engine.pids if place["role"] == role}


def test_two_processes_compute_what_one_computes():
    joint = same_updates("a2c")
    rows = {(row["message"], row["source"], row["target"]): row for row in joint.engine.rows()}
    assert rows["GRAD", "learner", "learner"]["via"] == "network"
    assert rows["GRAD", "learner", "learner"]["count"] == 2 * joint.states[-1].updates
    assert rows["TRAJ", "actor", "learner"]["count"] == 2 * len(joint.states)
    learners = {place["pid"] for place in joint.engine.pids if place["role"] == "learner"}
    assert len(learners) == 2
    refuse_orphans(joint.engine)


@pytest.mark.slow
def test_learners_on_two_hosts_compute_what_one_computes():
    joint = same_updates("a2c", "ray")
    assert nodes_of(joint.engine, "learner") == nodes_of(joint.engine, "actor") == {"node0", "node1"}
    assert {place["epoch"] for place in joint.engine.pids} == {0}
    other = run_small("a2c", "inline", updates=3, learner_devices=1, learners=2, normalise_obs=True, seed=1)
    assert not agree(joint, other)
    rows = {(row["message"], row["source"], row["target"]): row for row in joint.engine.rows()}
    assert rows["GRAD", "learner", "learner"]["count"] == 2 * joint.states[-1].updates
    assert rows["TRAJ", "actor", "learner"]["count"] == 2 * len(joint.states)


@pytest.mark.slow
def test_learners_on_two_hosts_shuffle_and_step_as_one_does():
    joint = same_updates("ppo", "ray", epochs=2, minibatches=3)
    assert nodes_of(joint.engine, "learner") == {"node0", "node1"}


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"epochs": 2, "minibatches": 3}, {"minibatches": 1, "network": "lstm"}])
def test_two_processes_shuffle_and_step_as_one_does(fields):
    network = fields.pop("network", None)
    if network is None:
        same_updates("ppo", **fields)
        return
    fields = {"learners": 2, **fields}
    joint, alone = (
        run_small("ppo", engine, updates=2, parts=parts_of("ppo", config_of("ppo", 2, **f), network=network), **f)
        for engine, f in (
            ("processes", {**fields, "learner_processes": 2}),
            ("inline", {**fields, "learner_devices": 1}),
        )
    )
    np.testing.assert_allclose(joint.states[0].params, alone.states[0].params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("which", [1, 2])
def test_a_learner_process_that_is_killed_ends_the_run_in_one_line_and_nothing_is_left(which):
    module, config = registry.load("a2c"), config_of("a2c", 10**6, **JOINT)
    engine, parts = make_engine("processes"), parts_of("a2c", config)
    engine.preload = preloads(parts.agent, module, config)

    def visit(state, _batch, _metrics):
        if state.updates == 5:
            victims = [p["pid"] for p in engine.pids if (p["role"], p["index"]) == ("learner", which)]
            os.kill(victims[0], signal.SIGKILL)
        return state

    with pytest.raises(LearnerLost, match=r"learner process \d of 2 (died|lost another one)") as ended:
        engine.run(module.run, config, parts, None, visit)
    assert "\n" not in str(ended.value)
    refuse_orphans(engine)


def failed(cause, role="learner"):
    """As the body of a system receives it."""
    fault = RoleFailed("/a2c", role, 1, cause)
    fault.__cause__ = cause
    return fault


def test_a_learner_s_loss_is_told_from_other_faults():
    died = failed(LearnerLost("learner process 1 of 2 died"))
    for fault in (died, failed(died, "member")):
        assert str(loss_in(fault)) == "learner process 1 of 2 died"
    unread = MessageLost("a message of 9 bytes lay on a node that is gone")
    for fault in (unread, failed(unread, "actor")):
        assert "gone with its node (a message of 9 bytes" in str(loss_in(fault))
    for fault in (failed(ShoalError("loss/total is not finite")), failed(ValueError("gloo")), KeyError(), None):
        assert loss_in(fault) is None


def test_what_collectives_say_of_a_lost_process_is_its_loss_and_all_else_stays_what_it_is():
    with (
        pytest.raises(LearnerLost, match="learner process 1 of 2 lost another one"),
        others_there("learner process 1 of 2"),
    ):
        raise RuntimeError("UNKNOWN: Gloo all-reduce failed:\n Connection closed by peer")
    with pytest.raises(RuntimeError, match="out of memory"), others_there("learner process 1 of 2"):
        raise RuntimeError("out of memory")


def test_processes_of_learners_need_an_engine_of_processes():
    config = registry.load("a2c").Config(num_actors=2, **JOINT)
    require_processes_of_learners(config, "processes", "free")
    require_processes_of_learners(config, "ray", "free")
    require_processes_of_learners(registry.load("a2c").Config(), "inline", "fixed")
    for engine, order in (("threads", "free"), ("processes", "fixed"), ("ray", "fixed")):
        with pytest.raises(ConfigError, match="learner_processes=2 need processes that work at the same time"):
            require_processes_of_learners(config, engine, order)


def test_who_has_started_jax_cannot_meet_others_and_is_told_in_one_line():
    jax.devices()
    with pytest.raises(ShoalError, match="learner process 1 of 2 did not meet the others") as refused:
        meet(free_address(), 0, 2, 1)
    assert "\n" not in str(refused.value)


def test_a_taken_port_and_a_first_process_that_never_comes_are_one_line(monkeypatch):
    monkeypatch.setattr(meeting, "MEET_S", 0.2)
    with pytest.raises(ShoalError, match=r"learner process 2 of 2 found nobody at 127.0.0.1:\d+ within 0.2 s"):
        meet(free_address(), 1, 2, 1)
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with pytest.raises(ShoalError, match="which is taken"):
            meet(f"{LOOPBACK}:{taken.getsockname()[1]}", 0, 2, 1)


def test_the_flow_of_learner_processes_shows_the_network():
    rows = {(row["message"], row["source"], row["target"]): row for row in flow_of("a2c", num_actors=2, **JOINT)}
    assert rows["GRAD", "learner", "learner"]["via"] == "network"
    assert rows["GRAD", "learner", "learner"]["count"] > 0
    assert rows["PARAM", "learner", "actor"]["count"] > 0
