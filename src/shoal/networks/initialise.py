# SPDX-License-Identifier: Apache-2.0
"""Orthogonal initial weights and the size of a policy head."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from shoal.types import Discrete, EnvSpec


def head_size(spec: EnvSpec) -> int:
    """Outputs of a policy head: one logit per action, or one mean per action dimension."""
    return spec.action.n if isinstance(spec.action, Discrete) else int(np.prod(spec.action.shape))


def orthogonal_linear(inputs: int, outputs: int, gain: float, key: jax.Array) -> eqx.nn.Linear:
    """A linear layer with orthogonal weights [outputs, inputs] times gain and zero bias.

    Check: the weight's rows (or columns, whichever are fewer) are orthogonal with length `gain`.
    """
    layer = eqx.nn.Linear(inputs, outputs, key=key)
    weight = jax.nn.initializers.orthogonal(gain)(key, (outputs, inputs), jnp.float32)
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, jnp.zeros(outputs)))
