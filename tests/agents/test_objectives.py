# SPDX-License-Identifier: Apache-2.0
"""Objectives: against each other, against the definition of returns, and deaf to what reset rows hold."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from agents.made import BOX, DISCRETE, MATRIX, loss_and_gradient, make_agent, make_trajectory, of_environments
from reference import returns
from reference.trajectories import Columns
from shoal.agents.model import build, flat_maker
from shoal.agents.objectives import counted_actions, learning_reward
from shoal.networks.mlp import Mlp

ARCHITECTURES = ("a2c", "ppo", "impala", "appo")
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def case(architecture, spec=DISCRETE, seed=0, **fields):
    """An agent, params away from their start, and a trajectory made under these."""
    agent = make_agent(architecture, spec, **fields)
    params = agent.init(seed)
    params = params + np.random.default_rng(seed).normal(scale=0.2, size=params.shape).astype(np.float32)
    return agent, params, make_trajectory(agent, spec, params, seed)


def behind(trajectory, seed=1):
    """The same trajectory as if a somewhat different policy had acted."""
    shift = np.random.default_rng(seed).normal(scale=0.5, size=trajectory.log_prob.shape).astype(np.float32)
    return trajectory._replace(log_prob=trajectory.log_prob + shift)


@pytest.mark.parametrize("spec", [DISCRETE, MATRIX], ids=lambda spec: spec.id)
@pytest.mark.parametrize("fields", [{}, {"trace_decay": 0.5, "normalise_advantage": True, "reward_clip": 0.5}])
def test_vtrace_on_own_data_is_plain_actor_critic(spec, fields):
    plain, params, trajectory = case("a2c", spec, **fields)
    corrected = make_agent("impala", spec, **fields)
    loss, metrics, gradient = loss_and_gradient(plain, params, trajectory)
    other_loss, other_metrics, other_gradient = loss_and_gradient(corrected, params, trajectory)
    assert other_loss == pytest.approx(loss, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(other_gradient, gradient, **CLOSE)
    for name in ("loss/policy", "loss/value", "loss/entropy"):
        assert other_metrics[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-6)


def test_correction_matters_off_policy_and_can_be_switched_off():
    agent, params, trajectory = case("impala")
    _, _, corrected = loss_and_gradient(agent, params, behind(trajectory))
    _, _, on_policy = loss_and_gradient(agent, params, trajectory)
    assert np.abs(corrected - on_policy).max() > 1e-3
    uncorrected = make_agent("impala", DISCRETE, correction="none")
    _, metrics, ignored = loss_and_gradient(uncorrected, params, behind(trajectory))
    np.testing.assert_allclose(ignored, on_policy, **CLOSE)
    assert metrics["loss/behaviour_kl"] > 0.01


def test_the_surrogate_s_first_gradient_is_the_policy_gradient():
    fields = {"value_cost": 0.5, "entropy_cost": 0.01, "normalise_advantage": True}
    plain, params, trajectory = case("a2c", **fields)
    clipped = make_agent("ppo", DISCRETE, **fields)
    _, _, gradient = loss_and_gradient(plain, params, trajectory)
    _, metrics, first = loss_and_gradient(clipped, params, trajectory)
    np.testing.assert_allclose(first, gradient, **CLOSE)
    assert metrics["loss/approx_kl"] == pytest.approx(0, abs=1e-9)
    assert metrics["loss/clip_frac"] == 0


@pytest.mark.parametrize("fields", [{}, {"trace_decay": 0.5, "normalise_advantage": True, "reward_clip": 0.5}])
def test_appo_s_first_gradient_is_impala_s_on_data_of_older_params(fields):
    impala, params, trajectory = case("impala", **{"normalise_advantage": False} | fields)
    appo = make_agent("appo", DISCRETE, **{"normalise_advantage": False} | fields)
    _, metrics, gradient = loss_and_gradient(impala, params, behind(trajectory))
    _, other_metrics, first = loss_and_gradient(appo, params, behind(trajectory))
    np.testing.assert_allclose(first, gradient, **CLOSE)
    assert other_metrics["loss/value"] == pytest.approx(metrics["loss/value"], rel=1e-4)
    assert other_metrics["loss/approx_kl"] == pytest.approx(0, abs=1e-9)  # to the params that it arrived at
    uncorrected = make_agent("appo", DISCRETE, **{"normalise_advantage": False, "correction": "none"} | fields)
    assert np.abs(loss_and_gradient(uncorrected, params, behind(trajectory))[2] - gradient).max() > 1e-3


def test_appo_on_own_data_is_ppo_s_surrogate_on_every_pass():
    ppo, params, trajectory = case("ppo")
    appo = make_agent("appo", DISCRETE)
    samples, others = (jax.jit(agent.prepare)(params, trajectory) for agent in (ppo, appo))
    for name in ("log_prob", "advantage", "target"):
        one, other = (np.asarray(getattr(x, name))[samples.weight] for x in (samples, others))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    moved = params + np.float32(0.1)
    one, other = (jax.jit(jax.grad(lambda p, x, a=a: a.loss(p, x)[0]))(moved, samples) for a in (ppo, appo))
    np.testing.assert_allclose(one, other, **CLOSE)


def test_the_surrogate_stops_where_ratios_have_left_the_clip():
    agent, params, trajectory = case("ppo", value_cost=0.0, entropy_cost=0.0, normalise_advantage=False)
    # each action has become e times likelier: where that was good, nothing more is to be gained
    far = trajectory._replace(log_prob=trajectory.log_prob - 1)
    prepared = jax.jit(agent.prepare)(params, far)
    gains = prepared._replace(advantage=jnp.ones_like(prepared.advantage))
    gradient = jax.jit(jax.grad(lambda p, batch: agent.loss(p, batch)[0]))
    assert not np.asarray(gradient(params, gains)).any()
    assert np.asarray(gradient(params, gains._replace(advantage=-gains.advantage))).any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_trace_decay_one_targets_are_returns_to_the_end_of_the_unroll(architecture):
    agent, params, trajectory = case(architecture, trace_decay=1.0, discount=0.9)
    _, metrics, _ = loss_and_gradient(agent, params, trajectory)
    value = values_of(DISCRETE, params, trajectory.obs)
    steps, num_envs = trajectory.reward.shape
    flags = (trajectory.terminated, trajectory.truncated, trajectory.valid)
    columns = Columns(trajectory.reward, value, *flags, np.zeros((steps, num_envs)))
    target = returns.n_step_returns(columns, 0.9, steps)
    error = np.square(value[:-1] - target)[trajectory.valid].mean() / 2
    assert metrics["loss/value"] == pytest.approx(error, rel=1e-4)


def values_of(spec, params, obs):
    """The critic's values [T+1, B], from the module itself."""
    arrays, static = eqx.partition(build(Mlp, spec, jax.random.key(0)), eqx.is_inexact_array)
    network = eqx.combine(ravel_pytree(arrays)[1](params), static).network
    return np.asarray(jax.vmap(jax.vmap(network))(obs)[1])


@pytest.mark.parametrize("spec", [DISCRETE, BOX], ids=lambda spec: spec.id)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reset_rows_count_for_nothing(architecture, spec):
    agent, params, trajectory = case(architecture, spec, seed=2)
    assert (~trajectory.valid).any()
    loss, metrics, gradient = loss_and_gradient(agent, params, trajectory)
    unused = ~trajectory.valid
    junk = np.int32(99) if spec is DISCRETE else np.float32(np.nan)
    unused_action = unused if spec is DISCRETE else unused[..., None]
    spoilt = trajectory._replace(
        reward=np.where(unused, np.float32(np.nan), trajectory.reward),
        log_prob=np.where(unused, np.float32(np.nan), trajectory.log_prob),
        terminated=trajectory.terminated | unused,
        truncated=trajectory.truncated | unused,
        action=np.where(unused_action, junk, trajectory.action),
    )
    # the observation after a terminated row is worth nothing either; after a truncated one it is
    after = np.zeros(trajectory.obs.shape[:2], bool)
    after[1:] = trajectory.terminated
    spoilt = spoilt._replace(obs=np.where(after[..., None], np.float32(7), trajectory.obs))
    other_loss, other_metrics, other_gradient = loss_and_gradient(agent, params, spoilt)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_gradient, gradient, rtol=1e-4, atol=1e-6)
    assert other_metrics == pytest.approx(metrics, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_order_of_environments_changes_nothing(architecture):
    agent, params, trajectory = case(architecture, seed=3)
    order = np.array([2, 0, 3, 1])
    shuffled = of_environments(trajectory, order)
    loss, _, gradient = loss_and_gradient(agent, params, trajectory)
    other_loss, _, other_gradient = loss_and_gradient(agent, params, shuffled)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_gradient, gradient, **CLOSE)


def test_rewards_are_scaled_then_clipped():
    reward = jnp.array([-30.0, -1.0, 0.0, 4.0])
    np.testing.assert_allclose(learning_reward(reward, 0.1, None), [-3, -0.1, 0, 0.4], rtol=1e-6)
    np.testing.assert_allclose(learning_reward(reward, 0.1, 1.0), [-1, -0.1, 0, 0.4], rtol=1e-6)


def test_actions_of_reset_rows_are_cleared():
    valid = np.array([[True, False], [True, True]])
    whole = np.arange(1, 5, dtype=np.int32).reshape(2, 2)
    np.testing.assert_array_equal(counted_actions(whole, valid), [1, 0, 3, 4])
    real = np.arange(12, dtype=np.float32).reshape(2, 2, 3, 1)
    assert counted_actions(real, valid).shape == (4, 3)
    assert not np.asarray(counted_actions(real, valid))[1].any()
    assert counted_actions(np.ones((2, 2), np.float32), valid).shape == (4, 1)


def test_the_parts_add_up_to_the_loss():
    agent, params, trajectory = case("a2c", value_cost=0.3, entropy_cost=0.02)
    loss, metrics, _ = loss_and_gradient(agent, params, trajectory)
    parts = metrics["loss/policy"] + 0.3 * metrics["loss/value"] - 0.02 * metrics["loss/entropy"]
    assert loss == pytest.approx(parts, rel=1e-5)
    assert 0 < metrics["loss/entropy"] <= np.log(4) + 1e-6


def test_params_drawn_in_one_compiled_program_are_the_same():
    made = [flat_maker(Mlp, DISCRETE, compiled=compiled)(3) for compiled in (False, True)]
    np.testing.assert_array_equal(*made)
