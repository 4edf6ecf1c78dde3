# SPDX-License-Identifier: Apache-2.0
"""From an observation of any form to one vector of features: every entry through an encoder of its own."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from shoal.networks.initialise import orthogonal_layers
from shoal.trees import tree_leaves
from shoal.types import ArraySpec, ObsSpec

UNITS = 64
"""features of an entry that is no frames"""

LEAST_SIDE = 36
"""pixels a side below which the Nature network's last convolution sees nothing"""

FrameTrunk = Callable[[tuple[int, ...], jax.Array], Any]
"""called as (shape [stack, height, width], key), returns a module with `size` features"""


class VectorEncoder(eqx.Module):
    """One layer of 64 tanh units over all numbers of an entry."""

    layers: tuple[eqx.nn.Linear, ...]
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, key: jax.Array):
        (layer,) = orthogonal_layers((inputs, UNITS), 2**0.5, key)
        self.layers, self.size = (layer,), UNITS

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [64] of one entry [...]."""
        x = jnp.ravel(x).astype(jnp.float32)
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


class Encoder(eqx.Module):
    """Features of all entries side by side, in the order of the tree: dicts by sorted name.

    Check: the features of an entry depend on no other entry.
    """

    parts: tuple[Any, ...]
    size: int = eqx.field(static=True)

    def __init__(self, obs: ObsSpec, frames: FrameTrunk, key: jax.Array):
        leaves = tree_leaves(obs)
        keys = jax.random.split(key, len(leaves))
        self.parts = tuple(_part(leaf, frames, one) for leaf, one in zip(leaves, keys, strict=True))
        self.size = sum(part.size for part in self.parts)

    def __call__(self, obs: Any) -> jax.Array:
        """Features [size] of one observation, a tree of [...]."""
        return jnp.concatenate([part(leaf) for part, leaf in zip(self.parts, tree_leaves(obs), strict=True)])


def holds_frames(leaf: ArraySpec) -> bool:
    """Whether an entry is a stack of frames large enough for convolutions: bytes [stack, height, width]."""
    return leaf.dtype == "uint8" and len(leaf.shape) == 3 and min(leaf.shape[1:]) >= LEAST_SIDE


def _part(leaf: ArraySpec, frames: FrameTrunk, key: jax.Array) -> Any:
    if holds_frames(leaf):
        return frames(leaf.shape, key)
    return VectorEncoder(math.prod(leaf.shape), key)
