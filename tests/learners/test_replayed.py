# SPDX-License-Identifier: Apache-2.0
"""Learning from minibatches of a replay memory: K at once as one by one, targets that age in env steps, parts apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import BOX, DISCRETE, make_agent, make_batch
from shoal.agents.base import Part
from shoal.architectures import ddpg, dqn
from shoal.architectures.base import make_learner_parts
from shoal.errors import NonFiniteError
from shoal.learners.optimiser import make_optimiser
from shoal.learners.parts import PartsOptimiser
from shoal.learners.replayed import make_replayed
from shoal.learners.spread import Spread
from shoal.trees import tree_map

ROWS, GROUPS = 12, 4
FIELDS = {"batch_size": ROWS, "target_interval": 100, "learning_rate": 1e-2}


def learner_of(agent=None, module=dqn, spread=None, **fields):
    config = module.Config(**FIELDS | fields)
    agent = agent or make_agent("dqn", DISCRETE, double_q=True)
    return make_replayed(agent, *make_learner_parts(config, agent), config, *([spread] if spread else []))


def groups_of(spec=DISCRETE, seed=0, groups=GROUPS):
    """Minibatches [K, N, ...]."""
    return tree_map(lambda *parts: np.stack(parts), *(make_batch(spec, seed + k, ROWS) for k in range(groups)))


def one(groups, k):
    return tree_map(lambda leaf: leaf[k], groups)


@pytest.fixture(scope="module")
def learner():
    return learner_of()


def test_minibatches_together_are_minibatches_one_by_one(learner):
    groups = groups_of()
    at_once, errors, metrics = learner.learn(learner.init(0), groups, 50)
    state, apart = learner.init(0), []
    for k in range(GROUPS):
        state, error, _ = learner.learn(state, one(groups, k), 50)
        assert error.shape == (ROWS,)
        apart.append(error)
    np.testing.assert_allclose(at_once.params, state.params, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(errors, np.stack(apart), rtol=1e-4, atol=1e-5)
    assert errors.dtype == np.float32
    assert (at_once.updates, state.updates, at_once.env_steps, at_once.version) == (GROUPS, GROUPS, 50, 1)
    assert metrics["learning_rate"] == pytest.approx(1e-2)
    other, _, _ = learner.learn(learner.init(0), groups_of(seed=9), 50)
    assert not np.allclose(other.params, state.params, rtol=1e-3)


def test_targets_are_renewed_at_multiples_of_the_interval_only(learner):
    state, groups = learner.init(0), groups_of()
    first, renewed = np.array(state.params), []
    for env_steps in (40, 99, 101, 180, 390, 399):
        before = np.array(state.params)
        state, _, _ = learner.learn(state, groups, env_steps)
        renewed.append(np.array_equal(state.optimiser.target, before))
    assert renewed == [True, False, True, False, True, False]  # before the first step both are the first params
    assert not np.array_equal(state.optimiser.target, first)
    before = np.array(state.params)
    passed = state._replace(env_steps=520)  # rows came that nothing was learnt for
    state, _, _ = learner.learn(passed, groups, 530)
    np.testing.assert_array_equal(state.optimiser.target, before)


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_without_an_interval_targets_follow_every_step(rate):
    learner = learner_of(target_interval=0, target_rate=rate)
    state, target = learner.init(0), np.array(learner.init(0).params)
    for seed in range(3):
        state, _, _ = learner.learn(state, make_batch(DISCRETE, seed, ROWS), 50)
        target += np.float32(rate) * (np.asarray(state.params) - target)
    np.testing.assert_allclose(state.optimiser.target, target, rtol=1e-4, atol=1e-6)
    assert np.array_equal(state.optimiser.target, state.params) == (rate == 1.0)


def test_a_gradient_is_the_step_s_and_leaves_everything_as_it_is(learner):
    params, target, batch = learner.init(0).params, learner.init(1).params, make_batch(DISCRETE, 0, ROWS)
    grad, errors, metrics = learner.replay_gradient(params, target, batch)
    agent = make_agent("dqn", DISCRETE, double_q=True)
    expected, (off, _) = jax.grad(agent.replayed.loss, has_aux=True)(params, target, batch, jax.random.key(0))
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(errors, off, rtol=1e-4, atol=1e-6)
    assert all(isinstance(value, float) for value in metrics.values())


def test_what_is_not_finite_stops_the_update_and_keeps_the_params(learner):
    groups, state = groups_of(), learner.init(0)
    groups.reward[2, 3] = np.inf
    with pytest.raises(NonFiniteError, match="update 0"):
        learner.learn(state, groups, 50)
    np.testing.assert_array_equal(state.params, learner.init(0).params)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"atoms": 7}])
def test_learners_on_several_devices_are_one(fields):
    agent = make_agent("dqn", DISCRETE, **fields)
    found = []
    for spread in (Spread(), Spread(2, jax.devices()[:2]), Spread(4, jax.devices()[:2])):
        learner = learner_of(agent, spread=spread, **fields)
        state, errors, metrics = learner.learn(learner.init(0), groups_of(), 150)
        found.append((np.asarray(state.params), errors, metrics["loss/value"], metrics["grad_norm"]))
    for other in found[1:]:
        for mine, its in zip(found[0], other, strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


def parted(every=1):
    optimiser = make_optimiser("adam", epsilon=1e-5, decay=0.99, max_grad_norm=1e9)
    return optimiser, PartsOptimiser(optimiser, (Part(0, 3), Part(3, 8, 0.5, every)))


def test_parts_step_as_the_whole_would_each_at_its_own_rate():
    whole, parts = parted()
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=9), jnp.float32)
    mine, moments, other, its = params, parts.init(params), params, whole.init(params)
    for number in range(3):
        grad, before = jnp.asarray(rng.normal(size=9), jnp.float32), (mine, other)
        mine, moments, norms = parts.step(mine, moments, grad, 0.1, number)
        other, its, theirs = whole.step(other, its, grad, 0.1)
        moved, as_one = mine - before[0], other - before[1]
        np.testing.assert_allclose(moved[:3], as_one[:3], rtol=1e-5)
        np.testing.assert_allclose(moved[3:8], 0.5 * as_one[3:8], rtol=1e-4)
        assert moved[8] == 0  # of no part
        assert norms["finite"] == theirs["finite"] == 1
        assert norms["grad_norm"] == pytest.approx(float(jnp.linalg.norm(grad[:8])), rel=1e-5)


def test_a_part_that_steps_less_often_keeps_params_and_moments_meanwhile():
    _, parts = parted(every=2)
    params = jnp.ones(9)
    first, moments, _ = parts.step(params, parts.init(params), jnp.ones(9), 0.1, 0)
    assert np.all(np.asarray(first[3:]) == 1)
    assert np.all(np.asarray(first[:3]) != 1)
    second, _, _ = parts.step(first, moments, jnp.ones(9), 0.1, 1)
    fresh = parts.step(params, parts.init(params), jnp.ones(9), 0.1, 1)[0]
    np.testing.assert_allclose(second[3:8], fresh[3:8])


@pytest.mark.slow
def test_td3_steps_its_policy_and_targets_every_other_time():
    agent = make_agent("ddpg", BOX, twin=True, policy_delay=2, target_noise=0.2)
    learner = learner_of(agent, ddpg, target_interval=0, twin=True, policy_delay=2)
    critic, actor = agent.replayed.parts
    state, changed = learner.init(0), []
    for seed in range(4):
        before = [np.array(x) for x in (state.params, state.optimiser.target)]
        state, _, _ = learner.learn(state, make_batch(BOX, seed, ROWS), 50)
        moved = np.asarray(state.params) != before[0]
        targets = not np.array_equal(state.optimiser.target, before[1])
        changed.append((bool(moved[critic.first :].any()), bool(moved[: actor.end].any()), targets))
    assert changed == [(True, False, False), (True, True, True)] * 2
