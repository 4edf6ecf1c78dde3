# SPDX-License-Identifier: Apache-2.0
"""Twins do nothing in the right shapes: what crosses is what crosses in a real run, without training or JAX."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from agents.made import BOX, DISCRETE, make_agent
from cli.shell import environment
from shoal import envs
from shoal.architectures import registry
from shoal.architectures.base import Parts
from shoal.engines import make_engine, nbytes
from shoal.learners.base import env_steps_in
from shoal.placement.episodes import Lengths
from shoal.placement.flow import CARTPOLE, CARTPOLE_PARAMS, UPDATES, flow_of
from shoal.placement.twins import TwinEnv, steps_in, twin_agent, twin_learner, twin_unrolls, zeros

FIELDS = {"pg": {"step": "d"}, "apex": {"dueling": False}, "r2d2": {"dueling": False}}
"""where the bytes of a message depend on how long episodes last, a setting in which none does; networks of one form"""
FIRST_DIFFERS = {"seed": 0.02, "gorila": 0.01, "apex": 0.01, "rainbow": 0.02}
"""an actor's first message is larger or smaller than all others"""


IN_ROUNDS = {
    name: {"replay_start": 64, **({} if name == "dqn" else {"priorities": "proportional"})}
    for name in ("dqn", "rainbow", "ddpg", "naf", "sac")
}
"""settings under which few rounds are enough; how many of them bring minibatches depends on episodes"""
REAL_ACTIONS = ("ddpg", "naf", "sac")


def facts_of(row):
    return (row["system"], row["source"], row["target"], row["message"], row["via"])


def bytes_of(row):
    return row["bytes"] / row["count"]


def real_flow(architecture, factory, **fields):
    """The ledger of real parts, in simulated time as well, with the settings of `flow_of`; and how many params."""
    module = registry.load(architecture)
    config = module.Config(**fields)
    actors = max(config.num_actors, 2)
    steps = 4 * actors * config.envs_per_actor * config.unroll_length
    config = dataclasses.replace(config, num_actors=actors, env_steps=steps)
    agent = make_agent(architecture, factory.spec, **fields)
    parts = Parts(factory.spec, factory.make, agent, module.make_learner(config, agent), seed=0)
    engine = make_engine("simulated")
    engine.run(module.run, config, parts)
    return engine.rows(), agent.init(0).size


@pytest.mark.parametrize("architecture", registry.ARCHITECTURES)
def test_the_flow_on_twins_is_that_of_a_real_run(architecture):
    fields = {**FIELDS, **IN_ROUNDS}.get(architecture, {})
    factory = envs.resolve("Pendulum-v1" if architecture in REAL_ACTIONS else "CartPole-v1")
    real, size = real_flow(architecture, factory, **fields)
    own = (factory.spec, size) if architecture in IN_ROUNDS else ()
    twin = flow_of(architecture, *own, **fields)
    assert [facts_of(row) for row in twin] == [facts_of(row) for row in real]
    if architecture in IN_ROUNDS:
        twin, real = ([row for row in rows if row["message"] != "BATCH"] for rows in (twin, real))
    if architecture != "r2d2":  # how many sequences are complete depends on episodes
        same = pytest.approx([bytes_of(row) for row in real], rel=FIRST_DIFFERS.get(architecture, 0))
        assert [bytes_of(row) for row in twin] == same
    received = next(row for row in twin if row["message"] in ("TRAJ", "GRAD", "TRANS"))
    assert received["count"] >= UPDATES


def test_cartpole_s_form_is_the_real_one():
    spec = envs.resolve("CartPole-v1").spec
    assert (CARTPOLE.obs, CARTPOLE.action, CARTPOLE.max_episode_steps) == (
        spec.obs,
        spec.action,
        spec.max_episode_steps,
    )
    assert make_agent("a2c", spec).init(0).size == CARTPOLE_PARAMS


def test_a_flow_needs_no_jax():
    program = "import sys; from shoal.placement.flow import flow_of; flow_of('impala'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=environment()).returncode == 0


def test_zeros_weigh_what_they_stand_for():
    big = zeros((1000, 1000))
    assert nbytes(big) == 4_000_000
    assert big.base.nbytes == 4
    assert not big.flags.writeable


def test_unrolls_of_one_version_are_one_object():
    made = twin_unrolls(DISCRETE)
    first, again, later = made(5, 3, 7), made(5, 3, 7), made(5, 3, 8)
    assert first is again
    assert [name for name in first._fields if getattr(first, name) is not getattr(later, name)] == ["version"]
    np.testing.assert_array_equal([first.version, later.version], [[7] * 3, [8] * 3])
    assert nbytes(first) == nbytes(later)


def test_an_unroll_knows_what_it_weighs():
    made = twin_unrolls(DISCRETE)(5, 2, 7)
    assert made.nbytes == nbytes(made) == nbytes(tuple(made)) > 0


def test_steps_are_counted_once_for_each_unroll():
    first, second = (twin_unrolls(DISCRETE)(5, 2, version) for version in (1, 2))
    batch = [first, second, first]
    assert steps_in(batch) == env_steps_in(batch) == 30


def test_a_twin_environment_keeps_the_rules_of_episode_ends():
    env = TwinEnv(DISCRETE, 3, first_index=2)
    env.reset(0)
    first = env.recv()
    assert not first.valid.any()
    rows = []
    for _ in range(3 * Lengths().mean):
        env.send(np.zeros(3, int))
        rows.append(env.recv())
    terminated, valid = (np.stack([getattr(row, name) for row in rows]) for name in ("terminated", "valid"))
    np.testing.assert_array_equal(~valid[1:], terminated[:-1])
    assert (terminated.sum(0) >= 2).all()
    # staggered: not all environments end at once
    assert terminated.sum(1).max() == 1
    assert first.obs.shape == (3, 3)


@pytest.mark.parametrize("spec", [DISCRETE, BOX], ids=lambda spec: spec.id)
def test_a_twin_agent_has_the_shapes_of_a_real_one(spec):
    real, twin = make_agent("a2c", spec), twin_agent(spec)
    obs, noise = np.zeros((4, *spec.obs.shape), np.float32), np.zeros((4, real.noise_size), np.float32)
    assert (twin.noise, twin.noise_size, twin.recurrent) == (real.noise, real.noise_size, real.recurrent)
    params = real.init(0)
    for agent in (real, twin):
        bound = agent.bind(params)
        action, head, memory = agent.act(bound, obs, agent.memory(4), noise)
        assert action.shape == (4, *spec.action.shape)
        assert head.shape == (4, real.noise_size)
        assert agent.mode(head).shape == action.shape
        assert agent.log_prob(bound, head[None], action[None]).shape == (1, 4)
        assert memory == ()


def test_a_twin_learner_counts_as_a_real_one():
    learner = twin_learner(10, updates_per_batch=16)
    state = learner.init(0)
    assert nbytes(learner.acting(state)) == 40
    made = type("Made", (), {"valid": np.array([[True, False], [True, True]])})()
    after, metrics = learner.update(state, [made, made])
    assert after[2:] == (16, 6, 1)
    assert metrics == {}
