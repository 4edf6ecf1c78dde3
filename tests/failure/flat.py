# SPDX-License-Identifier: Apache-2.0
"""A network of the user's own, which acts in JAX: actors of it need JAX, and so does the server that they come from."""

import equinox as eqx
import jax

from shoal.types import EnvSpec


class Flat(eqx.Module):
    """Two linear heads and nothing else."""

    head: eqx.nn.Linear
    value: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, key: jax.Array):
        first, second = jax.random.split(key)
        self.head = eqx.nn.Linear(spec.obs.shape[0], 2, key=first)
        self.value = eqx.nn.Linear(spec.obs.shape[0], 1, key=second)

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.head(obs), self.value(obs)[0]
