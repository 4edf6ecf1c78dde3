# SPDX-License-Identifier: Apache-2.0
"""Values of actions and the loss on them: against rlax, over episode ends of both kinds, and by their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from reference import trajectories
from shoal.losses import action_values as av
from shoal.losses.returns import n_step_returns

T, B, A = 7, 3, 4
DISCOUNT = 0.9


def values(seed, illegal=False):
    """q [T+1, B, A]; with `illegal`, the last action is not allowed anywhere."""
    q = np.random.default_rng(seed).normal(size=(T + 1, B, A)).astype(np.float32)
    if illegal:
        q[..., -1] = -np.inf
    return jnp.asarray(q)


def actions(seed):
    return jnp.asarray(np.random.default_rng(seed).integers(0, A - 1, (T, B)))


def plain(seed):
    """(reward, terminated, truncated, valid) of rows without any end."""
    none = np.zeros((T, B), bool)
    return np.random.default_rng(seed).normal(size=(T, B)).astype(np.float32), none, none, ~none


def one_step_errors(future, q, action, rows):
    """Target minus value [T, B] with one-step targets."""
    reward, terminated, truncated, valid = rows
    target = n_step_returns(reward, future, terminated, truncated, valid, discount=jnp.float32(DISCOUNT), steps=1)
    return av.value_error(q[:-1], action, target, valid).error


def over_rows(fn):
    """An rlax error of single rows, over [T, B]."""
    return jax.vmap(jax.vmap(fn))


def test_one_step_errors_are_those_of_rlax():
    q, held, action = values(0), values(1), actions(2)
    rows = plain(3)
    reward, discount = rows[0], np.full((T, B), DISCOUNT, np.float32)
    mine = one_step_errors(av.greedy(held), q, action, rows)
    theirs = over_rows(rlax.q_learning)(q[:-1], action, reward, discount, held[1:])
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    mine = one_step_errors(av.double(held, q), q, action, rows)
    theirs = over_rows(rlax.double_q_learning)(q[:-1], action, reward, discount, held[1:], q[1:])
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_sarsa_is_rlax_s_where_a_next_action_was_taken_and_expected_sarsa_where_not():
    q, held, action, rows = values(0), values(1), actions(2), plain(3)
    epsilon = jnp.float32(0.3)
    discount = np.full((T, B), DISCOUNT, np.float32)
    mine = one_step_errors(av.sarsa(held, action, rows[3], epsilon), q, action, rows)
    theirs = over_rows(rlax.sarsa)(q[:-2], action[:-1], rows[0][:-1], discount[:-1], held[1:-1], action[1:])
    np.testing.assert_allclose(mine[:-1], theirs, rtol=1e-5, atol=1e-6)
    greedy = jax.nn.one_hot(held.argmax(-1), A)
    probabilities = epsilon / A + (1 - epsilon) * greedy
    last = jax.vmap(rlax.expected_sarsa)(q[-2], action[-1], rows[0][-1], discount[-1], held[-1], probabilities[-1])
    np.testing.assert_allclose(mine[-1], last, rtol=1e-5, atol=1e-6)


def test_n_step_targets_are_those_of_rlax():
    held, rows = values(1), plain(3)
    future = av.greedy(held)
    for steps in (1, 3, T):
        mine = n_step_returns(rows[0], future, *rows[1:], discount=jnp.float32(DISCOUNT), steps=steps)
        theirs = jax.vmap(
            lambda r, v, steps=steps: rlax.n_step_bootstrapped_returns(r, jnp.full(T, DISCOUNT), v, steps),
            in_axes=1, out_axes=1,
        )(rows[0], future[1:])  # fmt: skip
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["greedy", "double", "sarsa"])
def test_no_future_after_termination_and_all_of_it_after_truncation(kind, seed):
    rows = trajectories.make(seed, steps=T, num_envs=B)
    q, action = values(seed), actions(seed)
    future = {
        "greedy": av.greedy(q),
        "double": av.double(q, values(9)),
        "sarsa": av.sarsa(q, action, rows.valid, jnp.float32(0.3)),
    }[kind]
    flags = (rows.terminated, rows.truncated, rows.valid)
    target = np.asarray(n_step_returns(rows.reward, future, *flags, discount=jnp.float32(DISCOUNT), steps=1))
    future = np.asarray(future)
    expected = rows.reward + DISCOUNT * np.where(rows.terminated, 0, future[1:])
    np.testing.assert_allclose(target[rows.valid], expected[rows.valid], rtol=1e-5, atol=1e-6)
    if kind == "sarsa":  # nobody acted on the last observation of an episode
        ended = np.argwhere(rows.truncated & rows.valid)
        in_mean = np.asarray(av.expected(q, jnp.float32(0.3)))
        assert all(future[t + 1, b] == in_mean[t + 1, b] for t, b in ended)


def test_rows_that_do_not_count_move_nothing_whatever_they_hold():
    rng = np.random.default_rng(0)
    q, action, target = values(0)[:-1], actions(1), rng.normal(size=(T, B)).astype(np.float32)
    weight = rng.random((T, B)) < 0.7

    def loss(q, target):
        return av.value_error(q, action, target, weight).loss

    spoilt = jnp.where(weight[..., None], q, jnp.nan), jnp.where(weight, target, jnp.nan)
    clean, grad = jax.value_and_grad(loss)(q, target)
    dirty, dirty_grad = jax.value_and_grad(loss)(*spoilt)
    assert clean == dirty
    np.testing.assert_array_equal(grad, dirty_grad)
    assert np.all(np.asarray(grad)[~weight] == 0)
    assert np.any(np.asarray(grad)[weight] != 0)


def test_huber_is_the_square_near_by_and_clips_the_gradient_far_off():
    error = jnp.array([0.5, -3.0], jnp.float32)
    near, far = (jax.grad(lambda e, limit=limit: av.huber(e, limit).sum())(error) for limit in (None, 1.0))
    np.testing.assert_allclose(near, [0.5, -3.0])
    np.testing.assert_allclose(far, [0.5, -1.0])
    np.testing.assert_allclose(av.huber(error, 1.0), rlax.huber_loss(error, 1.0), rtol=1e-6)


def test_importance_weights_shrink_what_they_weigh():
    rng = np.random.default_rng(2)
    loss, weight = rng.normal(size=9), rng.random(9)
    np.testing.assert_allclose(av.weighed(jnp.asarray(loss), jnp.asarray(weight)), (loss * weight).mean(), rtol=1e-5)
    weight[:4], loss[:4] = 0, np.nan
    kept = (loss * weight)[4:].mean()
    np.testing.assert_allclose(av.weighed(jnp.asarray(loss), jnp.asarray(weight)), kept, rtol=1e-5)
    np.testing.assert_allclose(av.weighed(jnp.asarray(loss[4:]), jnp.ones(5)), loss[4:].mean(), rtol=1e-5)


def test_where_nothing_follows_the_future_may_be_anything():
    reward, discount, future = jnp.array([1.0, 2.0]), jnp.array([0.9, 0.0]), jnp.array([10.0, jnp.nan])
    np.testing.assert_allclose(av.target_of(reward, discount, future), [10.0, 2.0])


def test_illegal_actions_are_worth_nothing_to_anybody():
    q = values(0, illegal=True)
    assert np.isfinite(av.greedy(q)).all()
    np.testing.assert_allclose(av.expected(q, jnp.float32(1.0)), q[..., :-1].mean(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(av.expected(q, jnp.float32(0.0)), av.greedy(q))
    np.testing.assert_array_equal(av.double(q, q), av.greedy(q))
    assert np.all(av.double(values(0), values(1)) <= av.greedy(values(0)))
    for action in range(A - 1):
        np.testing.assert_array_equal(av.of_action(q, jnp.full((T + 1, B), action)), q[..., action])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        av.of_action(values(0), jnp.zeros((T, B), int))
    with pytest.raises(ValueError, match="shapes differ"):
        av.double(values(0), values(0)[:-1])
