# SPDX-License-Identifier: Apache-2.0
"""Q-learning with memory: from sequences as row by row, with burn-in, stored memory and values on another scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import DISCRETE, InJax, LstmInJax, draw_noise, make_agent, make_trajectory
from shoal.agents.exploration import followed_by
from shoal.agents.host_policy import reset_memory
from shoal.losses import action_values as av
from shoal.losses.returns import n_step_returns
from shoal.networks.recurrent import Lstm
from shoal.trees import read_at
from shoal.types import Sequences

KEY = jax.random.key(0)
FIELDS = {"sequence_length": 7, "n_step": 2, "discount": 0.9, "dueling": False}


def memory_of(rng):
    return tuple(rng.normal(size=(4, 64)).astype(np.float32) for _ in range(2))


def sequences_of(agent, seed=0, memory=None):
    trajectory = make_trajectory(agent, DISCRETE, followed_by(agent.init(0), 0.5), seed, memory=memory)
    weight = np.random.default_rng(seed).uniform(0.3, 1, 4).astype(np.float32)
    return Sequences(trajectory, weight, key=(), priority=())


def values_of(agent, params, steps, memory):
    """Values [L + 1, N, A], acting row by row on the host."""
    bound, found = agent.bind(np.asarray(params)), []
    noise = draw_noise(agent, np.random.default_rng(0), 4)
    for t in range(len(steps.obs)):
        _, q, memory = agent.act(bound, read_at(steps.obs, t), memory, noise)
        found.append(q)
        if t < len(steps.valid):
            memory = reset_memory(memory, steps.valid[t], agent.memory(4))
    return jnp.asarray(np.stack(found))


def by_hand(config, q, held, batch, burn_in):
    """Loss and errors of values [L + 1, N, A] under the params that learn and the target's."""
    q, held = q[burn_in:], held[burn_in:]
    rows = [np.asarray(getattr(batch.steps, name))[burn_in:] for name in ("reward", "terminated", "truncated", "valid")]
    future = av.double(held, q)
    future = av.unscale(future) if config["rescale_values"] else future
    target = n_step_returns(rows[0], future, *rows[1:], discount=0.9, steps=2)
    target = av.rescale(target) if config["rescale_values"] else target
    action = np.where(rows[3], batch.steps.action[burn_in:], 0)
    error = np.where(rows[3], target - av.of_action(q[:-1], jnp.asarray(action)), 0)
    weight = rows[3] * batch.weight
    size = np.abs(error)
    return (weight * 0.5 * error**2).sum() / rows[3].sum(), 0.9 * size.max(0) + 0.1 * size.sum(0) / rows[3].sum(0)


@pytest.mark.parametrize(
    ("burn_in", "rescale"),
    [(3, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, True), (3, False), (0, False)))],
)
def test_a_sequence_is_learnt_from_as_row_by_row(burn_in, rescale):
    fields = {**FIELDS, "burn_in": burn_in, "rescale_values": rescale}
    agent = make_agent("r2d2", DISCRETE, Lstm, **fields)
    batch = sequences_of(agent, 1, memory_of(np.random.default_rng(5)))
    params, target = agent.init(0), 2 * agent.init(1)
    loss, (errors, _) = jax.jit(agent.replayed.loss)(params, target, batch, KEY)
    q, held = (values_of(agent, p, batch.steps, batch.steps.memory) for p in (params, target))
    expected, sizes = by_hand(fields, q, held, batch, burn_in)
    assert float(loss) == pytest.approx(expected, rel=1e-3)
    np.testing.assert_allclose(errors, sizes, rtol=1e-3, atol=1e-5)
    whole, _ = agent.loss(jnp.asarray(followed_by(params, 0.5, target)), agent.prepare(params, batch.steps))
    expected, _ = by_hand(fields, q, held, batch._replace(weight=np.ones(4)), 0)
    assert float(whole) == pytest.approx(expected, rel=1e-3)  # unrolls have no rows to burn


def test_memory_is_the_stored_one_or_none_and_burn_in_brings_it_up_to_date():
    stored, empty = memory_of(np.random.default_rng(5)), tuple(np.zeros((4, 64), np.float32) for _ in range(2))
    losses = {}
    for keeps in (True, False):
        agent = make_agent("r2d2", DISCRETE, Lstm, **FIELDS, burn_in=0, rescale_values=True, stored_memory=keeps)
        params = 3 * agent.init(0)
        batch = sequences_of(agent, 1, stored)
        for name, memory in (("stored", stored), ("empty", empty)):
            steps = batch.steps._replace(memory=memory)
            losses[keeps, name] = float(agent.replayed.loss(params, params, batch._replace(steps=steps), KEY)[0])
    assert losses[True, "stored"] != pytest.approx(losses[True, "empty"], rel=1e-3)
    assert losses[False, "stored"] == losses[False, "empty"] == pytest.approx(losses[True, "empty"], rel=1e-5)


def test_rows_of_burn_in_get_no_gradient_and_rows_that_do_not_count_move_nothing():
    agent = make_agent("r2d2", DISCRETE, Lstm, **FIELDS, burn_in=3, rescale_values=True)
    params, batch = agent.init(0), sequences_of(agent, 1)
    gradient = jax.jit(jax.grad(lambda p, b: agent.replayed.loss(p, params, b, KEY)[0]))

    def given(**columns):
        return np.asarray(gradient(params, batch._replace(steps=batch.steps._replace(**columns))))

    plain, action, reward = given(), batch.steps.action.copy(), batch.steps.reward.copy()
    action[:3], reward[:3] = 3, 100
    reward[~batch.steps.valid] = np.nan
    np.testing.assert_array_equal(given(action=action, reward=reward), plain)
    assert not np.array_equal(given(reward=reward + 1), plain)


def test_acting_in_numpy_is_acting_in_jax_and_networks_without_memory_learn_too():
    agents = [make_agent("r2d2", DISCRETE, network, sequence_length=7, burn_in=0) for network in (Lstm, LstmInJax)]
    params, rng = followed_by(3 * agents[0].init(0), 0.4), np.random.default_rng(0)
    obs, noise, memory = rng.normal(size=(4, 3)).astype(np.float32), draw_noise(agents[0], rng, 4), memory_of(rng)
    found = [agent.act(agent.bind(params), obs, memory, noise) for agent in agents]
    for mine, other in zip(*(jax.tree.leaves(one) for one in found), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    plain = make_agent("r2d2", DISCRETE, InJax, sequence_length=7, burn_in=2)
    batch = sequences_of(plain)
    assert np.isfinite(plain.replayed.loss(plain.init(0), plain.init(1), batch, KEY)[0])
