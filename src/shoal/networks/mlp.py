# SPDX-License-Identifier: Apache-2.0
"""Separate tanh towers for policy and value: the usual network of classic control."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from shoal.networks.initialise import orthogonal_layers
from shoal.types import EnvSpec

HIDDEN = (64, 64)


class Mlp(eqx.Module):
    """Two towers of 64-64 tanh units (Schulman et al. 2017, section 6.1), over an observation that is one array.

    Separate towers let an actor run the policy without the value: the learner recomputes values in one batch.

    Check: `run_layers` of the host policy gives the same head to 1e-5.
    """

    policy: tuple[eqx.nn.Linear, ...]
    value: tuple[eqx.nn.Linear, ...]

    def __init__(self, spec: EnvSpec, key: jax.Array):
        size = math.prod(spec.obs.shape)
        policy_key, value_key = jax.random.split(key)
        self.policy = orthogonal_layers((size, *HIDDEN, spec.action.head_size), 0.01, policy_key)
        self.value = orthogonal_layers((size, *HIDDEN, 1), 1.0, value_key)

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of one observation [*shape]."""
        x = jnp.ravel(obs).astype(jnp.float32)
        return run_tower(self.policy, x), run_tower(self.value, x)[0]


def run_tower(layers: tuple[eqx.nn.Linear, ...], x: jax.Array) -> jax.Array:
    """x [inputs] through tanh layers and a last one without."""
    for layer in layers[:-1]:
        x = jnp.tanh(layer(x))
    return layers[-1](x)
