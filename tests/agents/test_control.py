# SPDX-License-Identifier: Apache-2.0
"""Agents with real-valued actions: host and device alike, losses by hand, and gradients that stay in their part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import (
    BOX,
    DISCRETE,
    MATRIX,
    NUMBER,
    InJax,
    act_once,
    draw_noise,
    make_agent,
    make_batch,
    make_trajectory,
    random_obs,
)  # fmt: skip
from shoal.agents.exploration import followed_by
from shoal.agents.export import export_policy, load_policy
from shoal.agents.policy import Policy
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, EnvSpec

KEY = jax.random.key(0)
KINDS = ("ddpg", "naf", "sac")
TREE = EnvSpec("made:box_tree", {"b": ArraySpec((2, 2), "float32"), "a": ArraySpec((3,), "float32")}, BOX.action)
TD3 = {"twin": True, "policy_delay": 2, "target_noise": 0.2, "priorities": "proportional"}


def gradient(agent, params, batch):
    """(gradient of the loss [P], errors [N])."""
    target = 2 * agent.init(1)
    fn = jax.jit(jax.grad(lambda p: agent.replayed.loss(p, target, batch, KEY), has_aux=True))
    grad, (errors, _) = fn(params)
    return np.asarray(grad), np.asarray(errors)


@pytest.mark.parametrize(
    ("kind", "spec"), [("ddpg", BOX), ("ddpg", NUMBER), ("naf", MATRIX), ("sac", BOX), ("sac", NUMBER)]
)
def test_acting_in_numpy_is_acting_in_jax(kind, spec):
    agents = [make_agent(kind, spec, network) for network in (None, InJax)]
    rng = np.random.default_rng(0)
    params, obs, noise = (
        followed_by(3 * agents[0].init(0), 0.3),
        random_obs(spec, rng, 16),
        draw_noise(agents[0], rng, 16),
    )
    found = [act_once(agent, params, obs, noise) for agent in agents]
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
    policy, _ = agents[0].policy(jnp.asarray(params), obs, ())
    np.testing.assert_allclose(found[0][0].reshape(16, -1), policy.sample(noise), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(agents[0].mode(found[0][1]).reshape(16, -1), policy.mode(), rtol=1e-4, atol=1e-5)
    inside = np.abs(found[0][0]).reshape(16, -1).max(-1) < 0.999
    log_prob = np.asarray(policy.log_prob(found[0][0].reshape(16, -1)))
    np.testing.assert_allclose(found[0][2][inside], log_prob[inside], rtol=1e-3, atol=1e-3)
    assert [agent.plan is None for agent in agents] == [False, True]
    assert np.abs(found[0][0]).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_deviation_in_the_params_nothing_is_added(kind):
    agent, rng = make_agent(kind, BOX), np.random.default_rng(0)
    params, obs = agent.init(0), random_obs(BOX, rng, 9)
    still = np.zeros((9, agent.noise_size), np.float32)
    action, head, _ = act_once(agent, params, obs, still)
    np.testing.assert_allclose(action, agent.mode(head), rtol=1e-5)
    moved = act_once(agent, followed_by(params, 0.5), obs, draw_noise(agent, rng, 9))[0]
    assert not np.allclose(moved, action, atol=1e-2)


@pytest.mark.parametrize("network", [None, InJax])
def test_actors_are_told_what_the_critic_holds_of_their_actions(network):
    agent, rng = make_agent("ddpg", BOX, network, **TD3), np.random.default_rng(0)
    params, obs, action = (
        3 * agent.init(0),
        random_obs(BOX, rng, 5, 3),
        rng.uniform(-1, 1, (5, 3, 2)).astype(np.float32),
    )
    head = np.stack([act_once(agent, params, row, np.zeros((3, 2), np.float32))[1] for row in obs])
    taken, best = agent.judge(agent.bind(params), obs, action, head)
    batch = make_batch(BOX, rows=15)._replace(
        obs=obs.reshape(15, 3), action=action.reshape(15, 2), reward=np.zeros(15, np.float32),
        discount=np.zeros(15, np.float32),
    )  # fmt: skip
    plain = make_agent("ddpg", BOX)  # one critic: with no reward and no future its error is the value
    _, (errors, _) = plain.replayed.loss(params, params, batch, KEY)
    np.testing.assert_allclose(np.abs(taken).ravel(), errors, rtol=1e-3, atol=1e-5)
    batch = batch._replace(action=head.reshape(15, 2))
    _, (errors, metrics) = plain.replayed.loss(params, params, batch, KEY)
    np.testing.assert_allclose(np.abs(best).ravel(), errors, rtol=1e-3, atol=1e-5)
    assert metrics["loss/policy"] == pytest.approx(-best.mean(), rel=1e-3)
    assert make_agent("ddpg", BOX).judge is None


@pytest.mark.parametrize(
    ("kind", "fields"), [pytest.param("ddpg", {}, marks=pytest.mark.slow), ("ddpg", TD3), ("sac", {})]
)
def test_a_loss_pulls_at_its_own_part_only(kind, fields):
    agent, batch = make_agent(kind, BOX, **fields), make_batch(BOX)
    params = agent.init(0)
    critic, actor, *more = agent.replayed.parts
    assert (actor.first, actor.end, critic.end) == (0, critic.first, params.size - (kind == "sac"))
    assert actor.every == fields.get("policy_delay", 1)
    grad, _ = gradient(agent, params, batch)
    shifted, _ = gradient(agent, params, batch._replace(reward=batch.reward + 1))
    same = grad == shifted
    assert same[actor.first : actor.end].all()  # rewards reach the critic only
    assert not same[critic.first : critic.end].all()
    assert np.any(grad[actor.first : actor.end] != 0)
    assert len(more) == (kind == "sac")


def test_the_temperature_falls_while_entropy_is_above_its_target():
    batch = make_batch(BOX)
    for target, sign in ((-50.0, 1), (50.0, -1)):
        agent = make_agent("sac", BOX, target_entropy=target)
        grad, _ = gradient(agent, agent.init(0), batch)
        assert np.sign(grad[-1]) == sign
    held = make_agent("sac", BOX, learn_temperature=False, temperature=0.2)
    assert held.init(0)[-1] == pytest.approx(np.log(0.2))
    assert max(part.end for part in held.replayed.parts) == held.init(0).size - 1


def test_of_two_critics_targets_trust_the_lower():
    batch = make_batch(BOX)._replace(discount=np.ones(12, np.float32))
    one, two = make_agent("ddpg", BOX), make_agent("ddpg", BOX, twin=True)
    params, target = one.init(0), 3 * one.init(1)
    means = [agent.replayed.loss(params, target, batch, KEY)[1][0] for agent in (one, two)]
    assert not np.allclose(*means)
    noisy = make_agent("ddpg", BOX, target_noise=0.5)
    losses = [noisy.replayed.loss(params, target, batch, jax.random.key(seed))[0] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_best_action_of_naf_is_that_of_a_grid():
    agent, rng = make_agent("naf", BOX), np.random.default_rng(0)
    params, obs = 2 * agent.init(0), random_obs(BOX, rng, 1)
    best = act_once(agent, params, obs, np.zeros((1, 2), np.float32))[0][0]
    side = np.linspace(-1, 1, 41)
    grid = np.concatenate([np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), best[None]]).astype(np.float32)
    rows = len(grid)
    batch = make_batch(BOX, rows=rows)._replace(
        obs=np.repeat(obs, rows, 0), action=grid, reward=np.full(rows, 10, np.float32),
        discount=np.zeros(rows, np.float32),
    )  # fmt: skip
    _, (errors, _) = agent.replayed.loss(params, params, batch, KEY)
    values = 10 - np.asarray(errors)
    assert values.argmax() == rows - 1
    assert np.linalg.norm(grid[values[:-1].argmax()] - best) < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_unrolls_are_learnt_from_too_and_actions_have_the_environment_s_shape(kind):
    agent = make_agent(kind, NUMBER)
    params = agent.init(0)
    trajectory = make_trajectory(agent, NUMBER, followed_by(params, 0.3))
    assert trajectory.action.shape == (7, 4)
    loss, _ = agent.loss(jnp.asarray(params), agent.prepare(jnp.asarray(params), trajectory))
    assert np.isfinite(loss)


@pytest.mark.slow
def test_entries_of_an_observation_have_encoders_of_their_own():
    agent, batch = make_agent("ddpg", TREE, **TD3), make_batch(TREE)
    grad, errors = gradient(agent, agent.init(0), batch)
    assert np.isfinite(errors).all()
    assert np.isfinite(grad).all()
    assert agent.plan is None  # actors are to judge, and this critic takes JAX
    assert make_agent("ddpg", TREE).plan is not None


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_policy_is_the_policy(tmp_path, kind):
    agent = make_agent(kind, BOX)
    params, obs = 3 * agent.init(0), random_obs(BOX, np.random.default_rng(0), 20)
    loaded = load_policy(export_policy(tmp_path / "policy", BOX, agent.plan, params))
    own = Policy(BOX, agent, params)
    for deterministic in (True, False):
        np.testing.assert_allclose(loaded(obs, deterministic), own(obs, deterministic), rtol=1e-5)
    drawn = np.abs(own(obs, False) - own(obs)).max()
    assert (drawn > 0.1) == (kind == "sac")


@pytest.mark.parametrize("kind", KINDS)
def test_whole_number_actions_are_refused(kind):
    with pytest.raises(ConfigError, match="takes Discrete actions; use dqn or ppo"):
        make_agent(kind, DISCRETE)
    assert isinstance(BOX.action, Box)
