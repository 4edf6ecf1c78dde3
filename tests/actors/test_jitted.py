# SPDX-License-Identifier: Apache-2.0
"""Fused rollouts: the same trajectories as acting step by step, whatever is observed, chosen or remembered."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from agents.made import halves, make_agent
from envs.jitted.made import dials, drift, walk
from shoal.actors.jitted import JittedRollout
from shoal.actors.rollout import Rollout
from shoal.actors.samplers import start
from shoal.architectures.a2c import Config
from shoal.engines import make_engine
from shoal.envs.jitted.host import JittedVector
from shoal.envs.wrappers.frame_stack import FrameStack
from shoal.errors import EnvironmentFault
from shoal.networks.resolve import resolve

SEED = 11


def agent_for(env, network="auto", **fields):
    return make_agent("ppo", env.spec, resolve(network, env.spec), **fields)


def unrolls(kind, env, agent, num_envs=5, first_index=3, lengths=(14, 14, 14), seed=SEED):
    """Trajectories of one actor, with the agent's first params for all of them."""
    vector = JittedVector(env, num_envs, first_index)
    rollout = kind(vector, agent, seed=seed, first_index=first_index, return_discount=0.9)
    params = agent.init(0)
    return [rollout.unroll(params, version, length) for version, length in enumerate(lengths)]


def differing_fields(one, other):
    """Names of fields that differ by more than rounding."""
    differing = []
    for name in one._fields:
        pairs = zip(jax.tree.leaves(getattr(one, name)), jax.tree.leaves(getattr(other, name)), strict=True)
        for a, b in pairs:
            a, b = np.asarray(a), np.asarray(b)
            assert (a.shape, a.dtype) == (b.shape, b.dtype), name
            close = np.array_equal(a, b) if a.dtype.kind in "bi" else np.allclose(a, b, 1e-5, 1e-6, equal_nan=True)
            differing += [] if close else [name]
    return differing


@pytest.mark.parametrize(
    ("make", "network"),
    [(walk, "auto"), (walk, "lstm"), (drift, "auto"), (drift, "gru"), (dials, "mlp"), (dials, "lstm")],
)
def test_equals_acting_step_by_step(make, network):
    env = make()
    agent = agent_for(env, network)
    fused, stepped = unrolls(JittedRollout, env, agent), unrolls(Rollout, env, agent)
    for one, other in zip(fused, stepped, strict=True):
        assert differing_fields(one, other) == []
    assert not fused[-1].valid.all()
    assert np.isfinite(fused[-1].episode_return).any()


def test_normalised_observations_too():
    env = drift()
    agent = agent_for(env, normalise_obs=True)
    fused, stepped = unrolls(JittedRollout, env, agent), unrolls(Rollout, env, agent)
    for one, other in zip(fused, stepped, strict=True):
        assert differing_fields(one, other) == []


def test_memory_that_is_not_reset_is_found_out(monkeypatch):
    env = walk()
    agent = agent_for(env, "lstm")
    expected = unrolls(Rollout, env, agent)
    monkeypatch.setattr("shoal.actors.jitted.chosen", lambda which, after, initial: after)
    rows = unrolls(JittedRollout, walk(), agent)
    assert "memory" in differing_fields(rows[-1], expected[-1])


def test_two_actors_make_the_halves_of_one_actor_s_trajectories():
    env = walk()
    agent = agent_for(env)
    whole = unrolls(JittedRollout, env, agent, 10, 0)
    parts = [unrolls(JittedRollout, env, agent, 5, first) for first in (0, 5)]
    for trajectory, *made in zip(whole, *parts, strict=True):
        for part, half in zip(made, halves(trajectory), strict=True):
            assert differing_fields(part, half) == []


def test_seeds_differ_and_repeat():
    env = walk()
    agent = agent_for(env)
    one, again, other = (unrolls(JittedRollout, env, agent, seed=seed)[0] for seed in (SEED, SEED, 12))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one.obs["place"], other.obs["place"])
    assert not np.array_equal(one.action, other.action)


@pytest.mark.parametrize(("faulty", "step"), [("obs", 5), ("reward", 3)])
def test_numbers_that_are_not_finite_name_environment_and_step(faulty, step):
    env = drift(fault_at=step, faulty=faulty)
    agent = agent_for(env)
    rollout = JittedRollout(JittedVector(env, 2, 9), agent, seed=SEED, first_index=9)
    with pytest.raises(EnvironmentFault) as fault:
        for version in range(3):
            rollout.unroll(agent.init(0), version, 2)
    assert f"environment made:drift #9 (seed {SEED}) returned a {faulty}" in str(fault.value)
    assert f"not a finite number at step {step}; repair" in str(fault.value)


def test_start_fuses_what_can_be_fused():
    env = drift()
    agent = agent_for(env)
    config = Config(envs_per_actor=2)
    acting_only = SimpleNamespace(**{k: v for k, v in vars(agent).items() if k != "policy"})
    stacked = FrameStack(JittedVector(env, 2), 2)
    for made, acting, kind in (
        (JittedVector(env, 2), agent, JittedRollout),
        (JittedVector(env, 2), acting_only, Rollout),
        (stacked, acting_only, Rollout),
    ):
        parts = SimpleNamespace(make_env=lambda n, first, made=made: made, agent=acting, seed=SEED, sampler=None)
        assert type(start(0, config, parts)) is kind


def test_phases_and_notes():
    notes, env = [], walk()
    engine = make_engine("inline")
    engine.on_note = lambda **metrics: notes.append(metrics["env_steps_generated"])
    first, second = engine.run(lambda: unrolls(JittedRollout, env, agent_for(env), lengths=(14, 14)))
    assert set(engine.phases()["main"]) == {"prepare", "rollout", "assemble"}
    assert notes == [first.valid.sum(), second.valid.sum()]
