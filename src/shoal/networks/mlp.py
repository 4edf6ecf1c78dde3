# SPDX-License-Identifier: Apache-2.0
"""Separate tanh towers for policy and value: the usual network of classic control."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from shoal.networks.initialise import head_size, orthogonal_linear
from shoal.types import EnvSpec

HIDDEN = (64, 64)


class Mlp(eqx.Module):
    """Two towers of 64-64 tanh units (Schulman et al. 2017, section 6.1).

    Separate towers let an actor run the policy without the value: the learner recomputes values in one batch.

    Check: `run_tower` of the host policy gives the same head to 1e-5.
    """

    policy: tuple[eqx.nn.Linear, ...]
    value: tuple[eqx.nn.Linear, ...]

    def __init__(self, spec: EnvSpec, key: jax.Array):
        size = int(np.prod(spec.obs.shape))
        policy_key, value_key = jax.random.split(key)
        self.policy = _tower(size, head_size(spec), 0.01, policy_key)
        self.value = _tower(size, 1, 1.0, value_key)

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of one observation [*shape]."""
        x = jnp.ravel(obs).astype(jnp.float32)
        return _run(self.policy, x), _run(self.value, x)[0]


def _tower(size: int, outputs: int, last_gain: float, key: jax.Array) -> tuple[eqx.nn.Linear, ...]:
    sizes = (size, *HIDDEN, outputs)
    gains = [2**0.5] * len(HIDDEN) + [last_gain]
    keys = jax.random.split(key, len(gains))
    return tuple(orthogonal_linear(a, b, g, k) for a, b, g, k in zip(sizes, sizes[1:], gains, keys, strict=False))


def _run(layers: tuple[eqx.nn.Linear, ...], x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jnp.tanh(layer(x))
    return layers[-1](x)
