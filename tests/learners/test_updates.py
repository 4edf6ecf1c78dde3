# SPDX-License-Identifier: Apache-2.0
"""Updates: against loops written out with optax, fused against looped, and what they count, keep and refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.made import BOX, DISCRETE, MASKED_CHOICES, TREE, compiled_loss, halves, make_agent, make_trajectory
from shoal.architectures import registry
from shoal.architectures.base import make_learner_parts
from shoal.errors import NonFiniteError
from shoal.learners.base import env_steps_in, join
from shoal.learners.minibatch import make_minibatch, shuffled_rows
from shoal.networks.recurrent import Gru
from shoal.seeds import derive

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SMALL = {"envs_per_actor": 4, "unroll_length": 7, "env_steps": 1000}


def make(architecture, spec=DISCRETE, network=None, **fields):
    """(config, agent, learner, a trajectory of its first params)."""
    module = registry.load(architecture)
    config = module.Config(**SMALL | fields)
    agent = make_agent(architecture, spec, network, **SMALL | fields)
    learner = module.make_learner(config, agent)
    return config, agent, learner, make_trajectory(agent, spec, agent.init(0))


def chain_of(config):
    rules = {
        "adam": optax.scale_by_adam(eps=config.optimiser_epsilon),
        "rmsprop": optax.scale_by_rms(config.optimiser_decay, config.optimiser_epsilon, eps_in_sqrt=False),
    }
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), rules[config.optimiser])


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("a2c", {}),
        ("a2c", {"optimiser": "rmsprop", "max_grad_norm": 40.0}),
        ("impala", {"anneal_learning_rate": False}),
    ],
)
def test_one_step_per_batch_equals_optax(architecture, fields):
    config, agent, learner, trajectory = make(architecture, **fields)
    state, chain = learner.init(0), chain_of(config)
    params = jnp.asarray(agent.init(0))
    moments = chain.init(params)
    for _ in range(3):
        rate = config.learning_rate * (1 - state.env_steps / 1000 * config.anneal_learning_rate)
        (loss, _), grad = compiled_loss(agent)(params, trajectory)
        state, metrics = learner.update(state, [trajectory])
        direction, moments = chain.update(grad, moments, params)
        params = params - rate * direction
        np.testing.assert_allclose(state.params, params, **CLOSE)
        assert metrics["loss/total"] == pytest.approx(float(loss), rel=1e-5, abs=1e-6)
        assert metrics["grad_norm"] == pytest.approx(float(jnp.linalg.norm(grad)), rel=1e-4)
        assert metrics["learning_rate"] == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("spec", [DISCRETE, BOX], ids=lambda spec: spec.id)
def test_passes_of_minibatches_equal_a_loop_with_optax(spec):
    config, agent, learner, trajectory = make("ppo", spec, epochs=2, minibatches=3, anneal_learning_rate=False)
    state, metrics = learner.update(learner.init(0), [trajectory])
    chain, params = chain_of(config), jnp.asarray(agent.init(0))
    moments, samples = chain.init(params), jax.jit(agent.prepare)(params, trajectory)
    gradient = jax.jit(jax.value_and_grad(lambda p, batch: agent.loss(p, batch)[0]))
    losses = []
    for rows in shuffled_rows(derive(config.seed, "shuffle", 0), 28, 2, 3):
        loss, grad = gradient(params, jax.tree.map(lambda x, rows=rows: x[rows], samples))
        direction, moments = chain.update(grad, moments, params)
        params = params - config.learning_rate * direction
        losses.append(float(loss))
    np.testing.assert_allclose(state.params, params, **CLOSE)
    assert metrics["loss/total"] == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-6)


def test_one_compiled_call_and_one_call_per_minibatch_give_the_same_params():
    config, agent, fused, trajectory = make("ppo", epochs=2, minibatches=3)
    steps = {"epochs": 2, "minibatches": 3, "seed": config.seed}
    looped = make_minibatch(dataclasses.replace(agent, sees_frames=True), *make_learner_parts(config, agent), **steps)
    state, other = fused.init(0), looped.init(0)
    for _ in range(2):
        state, metrics = fused.update(state, [trajectory])
        other, other_metrics = looped.update(other, [trajectory])
        np.testing.assert_allclose(other.params, state.params, **CLOSE)
        assert other_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-6)
    assert other[2:] == state[2:]


def test_where_memory_is_carried_minibatches_are_environments_with_all_their_rows():
    fields = {"epochs": 2, "minibatches": 2, "anneal_learning_rate": False}
    config, agent, learner, trajectory = make("ppo", network=Gru, **fields)
    state, metrics = learner.update(learner.init(0), [trajectory])
    chain, params = chain_of(config), jnp.asarray(agent.init(0))
    moments, samples = chain.init(params), jax.jit(agent.prepare)(params, trajectory)
    gradient = jax.jit(jax.grad(lambda p, batch: agent.loss(p, batch)[0]))
    for envs in shuffled_rows(derive(config.seed, "shuffle", 0), 4, 2, 2):
        of_envs = jax.tree.map(lambda x, envs=envs: x[envs], samples)
        assert of_envs.log_prob.shape == (2, 7)
        assert of_envs.obs.shape == (2, 8, 3)
        direction, moments = chain.update(gradient(params, of_envs), moments, params)
        params = params - config.learning_rate * direction
    np.testing.assert_allclose(state.params, params, **CLOSE)
    assert metrics["sample_reuse"] == 2
    looping = dataclasses.replace(agent, sees_frames=True)
    looped = make_minibatch(looping, *make_learner_parts(config, agent), epochs=2, minibatches=2, seed=0)
    np.testing.assert_allclose(looped.update(looped.init(0), [trajectory])[0].params, params, **CLOSE)


@given(st.integers(0, 2**31 - 1), st.integers(1, 60), st.integers(1, 4), st.integers(1, 8))
def test_shuffled_rows(seed, rows, epochs, minibatches):
    minibatches = min(minibatches, rows)
    order = shuffled_rows(seed, rows, epochs, minibatches)
    assert order.shape == (epochs * minibatches, rows // minibatches)
    assert order.dtype == np.int32
    for epoch in order.reshape(epochs, -1):
        assert len(set(epoch.tolist())) == len(epoch)
        assert epoch.min() >= 0
        assert epoch.max() < rows
        if rows % minibatches == 0:
            assert len(epoch) == rows
    np.testing.assert_array_equal(order, shuffled_rows(seed, rows, epochs, minibatches))


def test_epochs_and_seeds_shuffle_differently():
    order = shuffled_rows(1, 64, 2, 4)
    assert not np.array_equal(order[:4], order[4:])
    assert not np.array_equal(order, shuffled_rows(2, 64, 2, 4))
    # 64 rows in 5 minibatches leave 4 over: not the same 4 each time
    left_over = {
        frozenset(range(64)) - frozenset(epoch) for epoch in shuffled_rows(1, 64, 6, 5).reshape(6, -1).tolist()
    }
    assert len(left_over) > 1


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
@pytest.mark.parametrize("spec", [DISCRETE, TREE, MASKED_CHOICES], ids=lambda spec: spec.id)
def test_join_of_halves_is_the_whole(architecture, spec):
    _, _, learner, trajectory = make(architecture, spec)
    memory = {"cell": np.arange(8.0).reshape(4, 2), "more": (np.arange(4.0),)}
    trajectory = trajectory._replace(version=np.arange(4), memory=memory)
    jax.tree.map(np.testing.assert_array_equal, join(halves(trajectory)), trajectory)
    assert join([trajectory]) is trajectory
    assert env_steps_in(halves(trajectory)) == env_steps_in([trajectory]) == trajectory.valid.sum()
    state, metrics = learner.update(learner.init(0), [trajectory])
    other, other_metrics = learner.update(learner.init(0), halves(trajectory))
    np.testing.assert_array_equal(state.params, other.params)
    assert other_metrics == metrics


@pytest.mark.parametrize(("architecture", "steps", "reuse"), [("a2c", 1, 1.0), ("ppo", 6, 2 * 27 / 28)])
def test_what_an_update_counts(architecture, steps, reuse):
    fields = {"epochs": 2, "minibatches": 3} if architecture == "ppo" else {}
    _, _, learner, trajectory = make(architecture, **fields)
    assert not trajectory.valid.all()
    first, metrics = learner.update(learner.init(0), [trajectory])
    second, _ = learner.update(first, [trajectory, trajectory])
    valid = int(trajectory.valid.sum())
    assert first[2:] == (steps, valid, 1)
    assert second[2:] == (2 * steps, 3 * valid, 2)
    assert metrics["sample_reuse"] == pytest.approx(reuse)
    assert "finite" not in metrics
    assert all(isinstance(value, float) for value in metrics.values())


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala"])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_kept(architecture):
    _, _, learner, trajectory = make(architecture)
    state, _ = learner.update(learner.init(0), [trajectory])
    before = jax.tree.map(np.array, state)
    reward = trajectory.reward.copy()
    reward[3, np.flatnonzero(trajectory.valid[3])[0]] = np.inf
    with pytest.raises(NonFiniteError) as refused:
        learner.update(state, [trajectory._replace(reward=reward)])
    assert refused.value.exit_code == 5
    assert str(refused.value).startswith(f"update {state.updates}: ")
    jax.tree.map(np.testing.assert_array_equal, before, state)
    after, _ = learner.update(state, [trajectory])
    expected, _ = learner.update(learner.update(learner.init(0), [trajectory])[0], [trajectory])
    np.testing.assert_array_equal(after.params, expected.params)


def test_updates_repeat_bit_for_bit_and_seeds_differ():
    _, _, learner, trajectory = make("ppo")
    first, again = (learner.update(learner.init(0), [trajectory])[0] for _ in range(2))
    np.testing.assert_array_equal(first.params, again.params)
    assert not np.array_equal(first.params, learner.update(learner.init(1), [trajectory])[0].params)
    _, _, reseeded, _ = make("ppo", seed=1)
    assert not np.array_equal(first.params, reseeded.update(learner.init(0), [trajectory])[0].params)
