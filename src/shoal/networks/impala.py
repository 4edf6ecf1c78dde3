# SPDX-License-Identifier: Apache-2.0
"""IMPALA's residual convolutional network for stacked frames, one trunk for policy and value."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from shoal.networks.conv import OverFrames, scaled
from shoal.networks.initialise import orthogonal_linear
from shoal.types import EnvSpec

CHANNELS = (16, 32, 32)
BLOCKS = 2
UNITS = 256


class ImpalaTrunk(eqx.Module):
    """Three stages of a convolution, a maximum over 3x3 and two residual blocks, then 256 relu units: the 15
    convolutional layers of Espeholt et al. 2018 (arXiv 1802.01561), figure 3, right, without the LSTM.

    Takes frames [stack, height, width] in uint8, scaled to [0, 1] inside.

    Unlike the Nature network's, these convolutions are the library's: at stride 1 every pixel is in nine patches, and
    on a CPU writing these down takes longer than the arithmetic. The maximum has a form of its own, `max_pool`.

    Check: `max_pool` equals the library's, in its gradient as well.
    """

    stages: tuple[tuple[tuple[jax.Array, jax.Array], ...], ...]
    """per stage the convolution before the maximum, then two for each block: filters [3, 3, C, F] and biases [F]"""
    hidden: eqx.nn.Linear
    size: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], key: jax.Array):
        channels, height, width = shape
        *stage_keys, hidden_key = jax.random.split(key, len(CHANNELS) + 1)
        stages = []
        for count, stage_key in zip(CHANNELS, stage_keys, strict=True):
            inputs = (channels, *(count,) * 2 * BLOCKS)
            keys = jax.random.split(stage_key, len(inputs))
            stages.append(tuple(_convolution(c, count, k) for c, k in zip(inputs, keys, strict=True)))
            channels, height, width = count, (height + 1) // 2, (width + 1) // 2
        self.stages, self.size = tuple(stages), UNITS
        self.hidden = orthogonal_linear(channels * height * width, UNITS, 2**0.5, hidden_key)

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Features [256] of one stack of frames [stack, height, width]."""
        x = scaled(frames)
        for first, *blocks in self.stages:
            x = max_pool(_convolve(x, *first))
            for one, other in zip(blocks[::2], blocks[1::2], strict=True):
                x = x + _convolve(jax.nn.relu(_convolve(jax.nn.relu(x), *one)), *other)
        return jax.nn.relu(self.hidden(jnp.ravel(jax.nn.relu(x))))


class ImpalaCnn(OverFrames):
    """The residual network with a policy head and a value head."""

    def __init__(self, spec: EnvSpec, key: jax.Array):
        super().__init__(spec, key, ImpalaTrunk)


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over windows of 3x3 at every other place of an image [H, W, C], padded to [ceil(H/2), ceil(W/2), C].

    Maxima of shifted images, first along one side, then along the other: the gradient of the library's windowed maximum
    is slow on a CPU; with this one a whole gradient takes a sixth less time.

    Check: equals `lax.reduce_window` with padding SAME.
    """
    for axis in (0, 1):
        x = _max_of_three(x, axis)
    return x


def _max_of_three(x: jax.Array, axis: int) -> jax.Array:
    length = x.shape[axis]
    half = (length + 1) // 2
    padding = 2 * half + 1 - length
    pads = [(padding // 2, padding - padding // 2) if i == axis else (0, 0) for i in range(x.ndim)]
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    parts = [lax.slice_in_dim(x, start, start + 2 * half - 1, 2, axis) for start in range(3)]
    return jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])


def _convolution(channels: int, count: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    weight = jax.nn.initializers.orthogonal(1.0)(key, (9 * channels, count), jnp.float32)
    return weight.reshape(3, 3, channels, count), jnp.zeros(count)


def _convolve(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """3x3 convolution of an image [H, W, C], padded to keep its size."""
    return (
        lax.conv_general_dilated(x[None], weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0] + bias
    )
