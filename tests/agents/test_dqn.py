# SPDX-License-Identifier: Apache-2.0
"""Deep Q-learning from a replay memory: losses against rlax, host and device alike, and the same from trajectories."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from agents.made import (
    BOX,
    DISCRETE,
    MASKED,
    EntriesInJax,
    InJax,
    Recaller,
    draw_noise,
    make_agent,
    make_batch,
    make_trajectory,
    network_for,
    random_obs,
)  # fmt: skip
from shoal.actors.transitions import n_step_rows
from shoal.agents.exploration import followed_by
from shoal.agents.export import export_policy, load_policy
from shoal.errors import ConfigError
from shoal.losses import action_values as av

FORMS = [{}, {"dueling": True}, {"atoms": 7, "value_high": 4.0}, {"dueling": True, "atoms": 7, "value_high": 4.0}]
KEY = jax.random.key(0)


def q_of(agent, params, obs):
    """Values [N, A], as the host sees them."""
    noise = draw_noise(agent, np.random.default_rng(0), len(jax.tree.leaves(obs)[0]))
    return agent.act(agent.bind(np.asarray(params)), obs, (), noise)[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("spec", "in_jax"), [(DISCRETE, InJax), (MASKED, EntriesInJax)])
def test_acting_in_numpy_is_acting_in_jax(spec, in_jax, form):
    agents = [make_agent("dqn", spec, network, **form) for network in (network_for(spec), in_jax)]
    rng = np.random.default_rng(0)
    params, obs = followed_by(3 * agents[0].init(1), 0.4), random_obs(spec, rng, 64)
    noise = draw_noise(agents[0], rng, 64)
    found = [agent.act(agent.bind(params), obs, (), noise) for agent in agents]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    policy, _ = agents[0].policy(jnp.asarray(params), obs, ())
    np.testing.assert_array_equal(found[0][0], policy.sample(noise))
    assert [agent.plan is None for agent in agents] == [False, True]
    if form.get("atoms"):
        legal = found[0][1][found[0][1] > -np.inf]
        assert np.all((legal > -10) & (legal < 4))
    taken, best = agents[0].judge(None, obs, found[0][0][None], found[0][1][None])
    assert np.all(taken <= best)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("spec", [DISCRETE, MASKED])
def test_errors_of_plain_values_are_those_of_rlax(spec, double):
    agent, batch = make_agent("dqn", spec, double_q=double), make_batch(spec)
    params, target = agent.init(0), 3 * agent.init(1)
    loss, (off, _) = jax.jit(agent.replayed.loss)(params, target, batch, KEY)
    q, held, chooser = (
        q_of(agent, *pair) for pair in ((params, batch.obs), (target, batch.next_obs), (params, batch.next_obs))
    )
    action = batch.action
    columns = (q, action, batch.reward, batch.discount, held)
    theirs = rlax.double_q_learning if double else rlax.q_learning
    error = jax.vmap(theirs)(*columns, *([chooser] if double else []))
    counts = np.isfinite(error)  # an illegal action was taken in the others
    np.testing.assert_allclose(off[counts], np.abs(error)[counts], rtol=1e-4, atol=1e-5)
    if spec is DISCRETE:
        assert loss == pytest.approx(np.mean(batch.weight * np.asarray(av.huber(error, 1.0))), rel=1e-4)


@pytest.mark.parametrize("double", [False, True])
def test_errors_of_distributions_are_those_of_rlax(double):
    form = {"atoms": 7, "value_low": -3.0, "value_high": 3.0}
    agent, batch = make_agent("dqn", DISCRETE, double_q=double, **form), make_batch(DISCRETE)
    params, target = agent.init(0), 3 * agent.init(1)
    loss, (off, _) = jax.jit(agent.replayed.loss)(params, target, batch, KEY)
    raw = make_agent("dqn", dataclasses.replace(DISCRETE, action=type(DISCRETE.action)(28)))  # the head as it is
    logits = [
        q_of(raw, p, obs).reshape(-1, 4, 7)
        for p, obs in ((params, batch.obs), (target, batch.next_obs), (params, batch.next_obs))
    ]
    atoms = jnp.linspace(-3, 3, 7)
    if double:
        chooser = jax.nn.softmax(logits[2]) @ atoms
        rows = jax.vmap(rlax.categorical_double_q_learning, (None, 0, 0, 0, 0, None, 0, 0))
        error = rows(atoms, logits[0], batch.action, batch.reward, batch.discount, atoms, logits[1], chooser)
    else:
        rows = jax.vmap(rlax.categorical_q_learning, (None, 0, 0, 0, 0, None, 0))
        error = rows(atoms, logits[0], batch.action, batch.reward, batch.discount, atoms, logits[1])
    assert loss == pytest.approx(np.mean(batch.weight * np.asarray(error)), rel=1e-4)
    assert np.all(off >= 0)
    assert np.all(np.asarray(off) <= np.asarray(error) + 1e-5)


def test_dueling_values_lie_around_the_state_s():
    agent = make_agent("dqn", DISCRETE, dueling=True)
    raw = make_agent("dqn", dataclasses.replace(DISCRETE, action=type(DISCRETE.action)(5)))
    obs, params = random_obs(DISCRETE, np.random.default_rng(0), 9), 3 * agent.init(0)
    np.testing.assert_allclose(q_of(agent, params, obs).mean(-1), q_of(raw, params, obs)[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_trajectory_is_learnt_from_as_the_rows_that_actors_make_of_it(steps):
    fields = {"n_step": steps, "discount": 0.9, "reward_scale": 0.5}
    agent = make_agent("dqn", DISCRETE, **fields)
    params = agent.init(0)
    trajectory = make_trajectory(agent, DISCRETE, followed_by(params, 0.5))
    mine = agent.prepare(jnp.asarray(params), trajectory)
    learnt = trajectory._replace(reward=0.5 * trajectory.reward)
    length = len(trajectory.reward) - steps + 1
    rows = n_step_rows(learnt, steps, 0.9, length)
    valid = rows.valid.ravel()
    for name in ("action", "reward", "discount"):
        found = np.asarray(getattr(mine, name))[: valid.size][valid]
        np.testing.assert_allclose(found, getattr(rows, name).ravel()[valid], rtol=1e-5)
    at = np.arange(length)[:, None] + rows.steps, np.arange(rows.steps.shape[1])
    found = np.asarray(mine.next_obs)[: valid.size][valid]
    np.testing.assert_array_equal(found, rows.obs[at].reshape(valid.size, -1)[valid])
    np.testing.assert_array_equal(mine.weight, trajectory.valid.ravel())
    loss, _ = agent.loss(jnp.asarray(params), mine)
    expected, _ = agent.replayed.loss(params, params, mine, KEY)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    held = 9 * agent.init(1)
    other, _ = agent.loss(jnp.asarray(followed_by(params, 0.5, held)), mine)
    expected, _ = agent.replayed.loss(params, held, mine, KEY)
    assert other == pytest.approx(float(expected), rel=1e-5)
    assert other != pytest.approx(float(loss), rel=1e-3)


@pytest.mark.parametrize("form", [{"dueling": True}, {"atoms": 7}])
def test_an_exported_policy_takes_the_best_action(tmp_path, form):
    agent = make_agent("dqn", DISCRETE, **form)
    params, obs = 3 * agent.init(0), random_obs(DISCRETE, np.random.default_rng(0), 50)
    policy = load_policy(export_policy(tmp_path / "policy", DISCRETE, agent.plan, params))
    for deterministic in (True, False):
        np.testing.assert_array_equal(policy(obs, deterministic), q_of(agent, params, obs).argmax(-1))


def test_other_actions_and_memory_are_refused():
    with pytest.raises(ConfigError, match="takes Box actions; use one with a policy"):
        make_agent("dqn", BOX)
    with pytest.raises(ConfigError, match="carries no memory"):
        make_agent("dqn", dataclasses.replace(DISCRETE, action=type(DISCRETE.action)(2)), Recaller)
