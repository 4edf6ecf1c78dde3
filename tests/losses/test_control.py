# SPDX-License-Identifier: Apache-2.0
"""Policies squashed by tanh and values quadratic in the action: against integrals, loops and rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from shoal.losses import action_values as av
from shoal.losses.control import Noisy, Squashed, log_slope, quadratic_advantage
from shoal.losses.distributions import DiagGaussian


def squashed(mean, log_std):
    return Squashed(DiagGaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32)))


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.8, -1.0), (-0.5, 0.3)])
def test_a_squashed_density_integrates_to_one(mean, log_std):
    actions = np.linspace(-1, 1, 200_003)[1:-1, None].astype(np.float32)
    rows = len(actions)
    policy = squashed(np.full((rows, 1), mean), np.full((rows, 1), log_std))
    density = np.exp(np.asarray(policy.log_prob(jnp.asarray(actions)), np.float64))
    assert density.sum() * 2 / rows == pytest.approx(1, abs=2e-3)


def test_what_is_drawn_has_the_density_it_is_said_to_have():
    rng = np.random.default_rng(0)
    policy = squashed(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)) / 2 - 1.5)
    noise = jnp.asarray(rng.normal(size=(50, 3)), jnp.float32)
    action, log_prob = policy.draw(noise)
    np.testing.assert_allclose(log_prob, policy.log_prob(action), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(policy.sample(jnp.concatenate([noise, noise], -1)), action)
    added = policy._replace(deviation=0.3).sample(jnp.concatenate([noise, noise], -1))
    np.testing.assert_allclose(added, np.clip(action + 0.3 * noise, -1, 1), atol=1e-6)
    np.testing.assert_allclose(policy.mode(), np.tanh(policy.normal.mean), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), policy.normal.entropy())


def test_the_slope_of_tanh_is_finite_far_out():
    x = jnp.array([[0.3, -1.2], [50.0, -50.0]])
    found = log_slope(x)
    np.testing.assert_allclose(found[0], np.log(1 - np.tanh([0.3, -1.2]) ** 2).sum(), rtol=1e-5)
    assert np.isfinite(found).all()
    assert np.isfinite(jax.grad(lambda y: log_slope(y).sum())(x)).all()


def test_noise_is_added_to_a_sure_policy_and_cut_off():
    rng = np.random.default_rng(0)
    action, noise = (jnp.asarray(rng.normal(size=(20, 2)) / 2, jnp.float32) for _ in range(2))
    np.testing.assert_allclose(Noisy(action, jnp.float32(0.4)).sample(noise), np.clip(action + 0.4 * noise, -1, 1))
    np.testing.assert_array_equal(Noisy(action, jnp.float32(0)).sample(noise), jnp.clip(action, -1, 1))
    normal = DiagGaussian(action, jnp.full((20, 2), np.log(0.4), jnp.float32))
    np.testing.assert_allclose(Noisy(action, jnp.float32(0.4)).log_prob(noise), normal.log_prob(noise), rtol=1e-5)
    np.testing.assert_allclose(Noisy(action, jnp.float32(0.4)).entropy(), normal.entropy(), rtol=1e-5)
    np.testing.assert_array_equal(Noisy(action, jnp.float32(0)).log_prob(noise), 0)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_quadratic_advantage_is_that_of_the_matrices(dims):
    rng = np.random.default_rng(dims)
    action, best = rng.normal(size=(2, 9, dims)).astype(np.float32)
    entries = rng.normal(size=(9, dims * (dims + 1) // 2)).astype(np.float32)
    found = quadratic_advantage(jnp.asarray(action), jnp.asarray(best), jnp.asarray(entries))
    for n in range(9):
        lower = np.zeros((dims, dims))
        lower[np.tril_indices(dims)] = entries[n]
        lower[np.diag_indices(dims)] = np.exp(lower[np.diag_indices(dims)])
        away = action[n] - best[n]
        assert found[n] == pytest.approx(-0.5 * away @ lower @ lower.T @ away, rel=1e-4)
    assert np.all(found < 0)
    np.testing.assert_array_equal(quadratic_advantage(jnp.asarray(best), jnp.asarray(best), jnp.asarray(entries)), 0)


def test_values_are_rescaled_as_rlax_does_and_come_back():
    x = jnp.asarray([-1e4, -30.0, -1.0, -1e-3, 0.0, 0.5, 2.0, 700.0])
    np.testing.assert_allclose(av.rescale(x), rlax.signed_hyperbolic(x, av.RESCALE_EPSILON), rtol=1e-6)
    np.testing.assert_allclose(
        av.unscale(x[1:]), rlax.signed_parabolic(x[1:], av.RESCALE_EPSILON), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(av.unscale(av.rescale(x)), x, rtol=1e-3, atol=1e-3)
