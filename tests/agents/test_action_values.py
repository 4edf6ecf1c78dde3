# SPDX-License-Identifier: Apache-2.0
"""Agents that value actions: host and device agree, exploration is what epsilon says, exports are greedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import DISCRETE, MASKED, EntriesInJax, InJax, make_agent, make_trajectory, network_for
from shoal import seeds
from shoal.agents.action_values import EpsilonGreedy
from shoal.agents.exploration import followed_by
from shoal.agents.export import export_policy, load_policy
from shoal.agents.host_values import epsilon_greedy, log_prob_epsilon_greedy
from shoal.agents.objectives import flat
from shoal.losses import action_values as av
from shoal.losses.returns import n_step_returns

ROWS = 5000


def q_of(rows=ROWS):
    """Values with one action that is not allowed in every other row."""
    q = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    q[::2, 1] = -np.inf
    return q


def noise_of(rows=ROWS, seed=0):
    return seeds.gumbels(seed, "act", np.arange(rows), 0, 1, 5)[0]


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_the_host_and_the_device_explore_alike(epsilon):
    q, noise = q_of(), noise_of()
    host = epsilon_greedy(q, np.float32(epsilon), noise)
    device = EpsilonGreedy(jnp.asarray(q), jnp.float32(epsilon))
    np.testing.assert_array_equal(host, device.sample(noise))
    np.testing.assert_allclose(
        log_prob_epsilon_greedy(q, np.float32(epsilon), host), device.log_prob(jnp.asarray(host)), rtol=1e-5, atol=1e-6
    )
    assert np.all(q[np.arange(ROWS), host] > -np.inf)


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_actions_have_the_probabilities_that_epsilon_says(epsilon):
    policy = EpsilonGreedy(jnp.asarray(np.tile(q_of(2)[:1], (ROWS, 1))), jnp.float32(epsilon))
    drawn = np.bincount(np.asarray(policy.sample(noise_of())), minlength=4) / ROWS
    probability = np.exp([policy.log_prob(jnp.full(ROWS, action))[0] for action in range(4)])
    assert probability[1] == 0
    np.testing.assert_allclose(drawn, probability, atol=0.03)
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    entropy = -sum(p * np.log(p) for p in probability if p > 0)
    assert policy.entropy()[0] == pytest.approx(entropy, abs=1e-5)
    np.testing.assert_array_equal(policy.mode(), policy.q.argmax(-1))


@pytest.mark.parametrize(("spec", "in_jax"), [(DISCRETE, InJax), (MASKED, EntriesInJax)])
def test_acting_in_numpy_is_acting_in_jax(spec, in_jax):
    agents = [make_agent("a3c", spec, network, agent="one_step_q") for network in (network_for(spec), in_jax)]
    params = followed_by(agents[0].init(0), 0.4)
    obs = jax.tree.map(lambda x: x[0], make_trajectory(agents[0], spec, params).obs)
    noise = noise_of(len(jax.tree.leaves(obs)[0]))
    found = [agent.act(agent.bind(params), obs, (), noise) for agent in agents]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    policy, _ = agents[0].policy(jnp.asarray(params), obs, ())
    np.testing.assert_array_equal(found[0][0], policy.sample(noise))
    assert [agent.plan is None for agent in agents] == [False, True]


def test_without_epsilon_in_the_params_nothing_is_drawn():
    agent = make_agent("a3c", DISCRETE, agent="n_step_q")
    params = agent.init(0)
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    action, q, _ = agent.act(agent.bind(params), obs, (), noise_of(50))
    np.testing.assert_array_equal(action, q.argmax(-1))
    exploring, _, _ = agent.act(agent.bind(followed_by(params, 1.0)), obs, (), noise_of(50))
    assert not np.array_equal(exploring, action)


def test_an_exported_policy_takes_the_best_action_also_when_drawn_from(tmp_path):
    agent = make_agent("a3c", DISCRETE, agent="one_step_sarsa")
    params = agent.init(0)
    policy = load_policy(export_policy(tmp_path / "policy", DISCRETE, agent.plan, params))
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    best, _, _ = agent.act(agent.bind(params), obs, (), noise_of(50))
    for deterministic in (True, False):
        np.testing.assert_array_equal(policy(obs, deterministic=deterministic), best)


@pytest.mark.parametrize("kind", ["one_step_q", "n_step_q", "one_step_sarsa"])
def test_the_loss_is_the_error_to_targets_of_the_held_params(kind):
    agent = make_agent("a3c", DISCRETE, agent=kind, discount=0.9, reward_scale=0.5)
    params, held = agent.init(0), 3 * agent.init(1)
    trajectory = make_trajectory(agent, DISCRETE, followed_by(params, 0.5))
    found, _ = agent.loss(jnp.asarray(followed_by(params, 0.5, held)), trajectory)

    def q_under(params):
        rows = np.asarray(trajectory.obs)
        head = agent.act(agent.bind(params), rows.reshape(-1, 3), (), noise_of(rows.shape[0] * rows.shape[1]))[1]
        return jnp.asarray(head.reshape(*rows.shape[:2], 4))

    q, target_q = q_under(params), q_under(held)
    action = np.where(trajectory.valid, trajectory.action, 0)
    future = av.sarsa(target_q, action, trajectory.valid, 0.5) if kind == "one_step_sarsa" else av.greedy(target_q)
    flags = (trajectory.terminated, trajectory.truncated, trajectory.valid)
    steps = 10**6 if kind == "n_step_q" else 1
    target = n_step_returns(0.5 * trajectory.reward, future, *flags, discount=0.9, steps=steps)
    expected = av.value_error(flat(q[:-1]), action.ravel(), flat(target), flat(trajectory.valid)).loss
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    moved, _ = agent.loss(jnp.asarray(followed_by(params, 0.5, params)), trajectory)
    assert not np.isclose(moved, found, rtol=1e-3)


def test_gradients_reach_the_network_and_nothing_else():
    agent = make_agent("a3c", DISCRETE, agent="one_step_q")
    params = agent.init(0)
    whole = jnp.asarray(followed_by(params, 0.5, agent.init(1)))
    trajectory = make_trajectory(agent, DISCRETE, followed_by(params, 0.5))
    grad = np.asarray(jax.grad(lambda p: agent.loss(p, trajectory)[0])(whole))
    assert np.any(grad[: params.size] != 0)
    np.testing.assert_array_equal(grad[params.size + 1 :], 0)
