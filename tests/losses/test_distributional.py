# SPDX-License-Identifier: Apache-2.0
"""Values as distributions: projection and loss against rlax, a loop, and their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from shoal.losses import distributional as dist

N, ATOMS, LOW, HIGH = 6, 11, -2.0, 3.0


def points(seed=0):
    """Points [N, ATOMS], some beyond the ends and some on atoms, and probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(LOW - 1, HIGH + 1, (N, ATOMS)).astype(np.float32)
    z[0] = np.linspace(LOW, HIGH, ATOMS)
    probability = rng.random((N, ATOMS)).astype(np.float32)
    return z, probability / probability.sum(-1, keepdims=True)


def project_slowly(z, probability):
    step, made = (HIGH - LOW) / (ATOMS - 1), np.zeros_like(probability)
    for n in range(N):
        for point, share in zip(z[n], probability[n], strict=True):
            at = (np.clip(point, LOW, HIGH) - LOW) / step
            below = int(np.floor(at))
            made[n, below] += share * (below + 1 - at)
            made[n, min(below + 1, ATOMS - 1)] += share * (at - below)
    return made


def test_projection_is_the_loop_s_and_rlax_s():
    z, probability = points()
    mine = np.asarray(dist.project(z, probability, LOW, HIGH))
    np.testing.assert_allclose(mine, project_slowly(z, probability), rtol=1e-4, atol=1e-5)
    theirs = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(z, probability, jnp.linspace(LOW, HIGH, ATOMS))
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mine[0], probability[0], atol=1e-5)


def test_projection_keeps_the_sum_and_the_mean_of_what_lies_between_the_ends():
    z, probability = points(1)
    inside = np.clip(z, LOW, HIGH)
    made = dist.project(inside, probability, LOW, HIGH)
    np.testing.assert_allclose(made.sum(-1), 1, rtol=1e-5)
    mean = made @ np.linspace(LOW, HIGH, ATOMS)
    np.testing.assert_allclose(mean, (inside * probability).sum(-1), rtol=1e-4, atol=1e-5)


def test_the_loss_pulls_towards_the_target_and_the_divergence_is_its_excess():
    _, target = points(2)
    logits = jnp.asarray(np.random.default_rng(3).normal(size=(N, ATOMS)), jnp.float32)
    grad = jax.grad(lambda x: dist.cross_entropy(target, x).sum())(logits)
    np.testing.assert_allclose(grad, jax.nn.softmax(logits) - target, atol=1e-6)
    off = np.asarray(dist.divergence(target, logits))
    entropy = -(target * np.log(target)).sum(-1)
    np.testing.assert_allclose(off, dist.cross_entropy(target, logits) - entropy, rtol=1e-4, atol=1e-6)
    assert np.all(off > 0)
    np.testing.assert_allclose(dist.divergence(target, jnp.log(target)), 0, atol=1e-5)
    certain = jnp.zeros((1, ATOMS)).at[0, 3].set(1)
    assert np.isfinite(dist.divergence(certain, logits[:1])).all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        dist.project(jnp.zeros((2, 3)), jnp.zeros(3), LOW, HIGH)
