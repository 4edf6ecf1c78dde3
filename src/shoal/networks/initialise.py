# SPDX-License-Identifier: Apache-2.0
"""Orthogonal initial weights."""

import equinox as eqx
import jax
import jax.numpy as jnp


def orthogonal_linear(inputs: int, outputs: int, gain: float, key: jax.Array) -> eqx.nn.Linear:
    """A linear layer with orthogonal weights [outputs, inputs] times gain and zero bias.

    Check: the weight's rows (or columns, whichever are fewer) are orthogonal with length `gain`.
    """
    layer = eqx.nn.Linear(inputs, outputs, key=key)
    weight = jax.nn.initializers.orthogonal(gain)(key, (outputs, inputs), jnp.float32)
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, jnp.zeros(outputs)))


def orthogonal_layers(
    sizes: tuple[int, ...], last_gain: float, key: jax.Array, gain: float = 2**0.5
) -> tuple[eqx.nn.Linear, ...]:
    """Linear layers from sizes[0] over hidden sizes to sizes[-1]: `gain` for all but the last.

    Check: layer i maps sizes[i] numbers to sizes[i + 1].
    """
    gains = [gain] * (len(sizes) - 2) + [last_gain]
    keys = jax.random.split(key, len(gains))
    pairs = zip(sizes, sizes[1:], gains, keys, strict=False)
    return tuple(orthogonal_linear(a, b, g, k) for a, b, g, k in pairs)
