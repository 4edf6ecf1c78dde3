# SPDX-License-Identifier: Apache-2.0
"""Values as distributions over fixed atoms: projecting a target onto them, and how far a prediction is from it."""

from typing import Any

import jax
import jax.numpy as jnp

from shoal.losses.shapes import require_equal_shapes

Array = Any


def project(z: Array, probability: Array, low: float, high: float) -> Array:
    """A distribution over points z [..., n] as one over as many atoms, evenly spaced from `low` to `high` (Bellemare et
    al. 2017, arXiv 1707.06887, equation 7).

    Each point's probability is shared between the two atoms beside it, by nearness; points beyond the ends count as
    there.

    Check: keeps the mean of what lies between the ends, and the sum always.
    """
    require_equal_shapes(z=z, probability=probability)
    atoms = jnp.linspace(low, high, z.shape[-1]).reshape(*(1,) * (z.ndim - 1), -1, 1)
    step = (high - low) / (z.shape[-1] - 1)
    distance = jnp.abs(jnp.clip(z, low, high)[..., None, :] - atoms)  # [..., atom, point]
    return jnp.sum(jnp.maximum(0.0, 1.0 - distance / step) * probability[..., None, :], -1)


def cross_entropy(target: Array, logits: Array) -> Array:
    """-sum target log softmax(logits), in nats, [...] of [..., n]; no gradient passes through the target.

    Check: its gradient with respect to the logits is softmax(logits) - target.
    """
    require_equal_shapes(target=target, logits=logits)
    return -jnp.sum(jax.lax.stop_gradient(target) * jax.nn.log_softmax(logits), -1)


def divergence(target: Array, logits: Array) -> Array:
    """KL(target || softmax(logits)) in nats, [...]; without gradient: what rows are drawn by (Hessel et al. 2018, arXiv
    1710.02298, section 4).

    Check: 0 where both are the same, never below.
    """
    entropy = -jnp.sum(jnp.where(target > 0, target * jnp.log(jnp.where(target > 0, target, 1.0)), 0.0), -1)
    return jax.lax.stop_gradient(jnp.maximum(cross_entropy(target, logits) - entropy, 0.0))
