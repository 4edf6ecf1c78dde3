# SPDX-License-Identifier: Apache-2.0
"""The Nature convolutional network for stacked 84x84 frames, one trunk for policy and value."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from shoal.networks.initialise import orthogonal_linear
from shoal.types import EnvSpec

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""(filters, kernel, stride) of Mnih et al. 2015, Methods"""


class NatureTrunk(eqx.Module):
    """Three convolutions and 512 relu units (Mnih et al. 2015).

    Takes frames [stack, height, width] in uint8, scaled to [0, 1] inside, so that frames travel as bytes.

    Convolutions are written as matrix products over patches: on a CPU their gradient is about twice as fast as that
    of the library's convolution.

    Check: `convolve` equals the library's convolution.
    """

    filters: tuple[jax.Array, ...]
    biases: tuple[jax.Array, ...]
    hidden: eqx.nn.Linear
    size: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], key: jax.Array):
        keys = trunk_and_heads(key)
        channels, height, width = shape
        filters = []
        for (count, kernel, stride), layer_key in zip(LAYERS, keys, strict=False):
            initial = jax.nn.initializers.orthogonal(2**0.5)
            filters.append(initial(layer_key, (kernel * kernel * channels, count)))
            channels, height, width = count, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.filters = tuple(filters)
        self.biases = tuple(jnp.zeros(count) for count, _, _ in LAYERS)
        self.size = 512
        self.hidden = orthogonal_linear(channels * height * width, self.size, 2**0.5, keys[len(LAYERS)])

    def __call__(self, frames: jax.Array) -> jax.Array:
        """Features [512] of one stack of frames [stack, height, width]."""
        x = scaled(frames)
        for weight, bias, (_, kernel, stride) in zip(self.filters, self.biases, LAYERS, strict=True):
            x = jax.nn.relu(convolve(x, weight, kernel, stride) + bias)
        return jax.nn.relu(self.hidden(jnp.ravel(x)))


class OverFrames(eqx.Module):
    """A trunk over frames with a policy head and a value head on top.

    Check: the head of a batch equals the heads of its rows one by one.
    """

    trunk: Any
    policy: eqx.nn.Linear
    value: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, key: jax.Array, trunk: Any):
        self.trunk = trunk(spec.obs.shape, key)
        policy_key, value_key = trunk_and_heads(key)[-2:]
        self.policy = orthogonal_linear(self.trunk.size, spec.action.head_size, 0.01, policy_key)
        self.value = orthogonal_linear(self.trunk.size, 1, 1.0, value_key)

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of one stack of frames [stack, height, width]."""
        x = self.trunk(obs)
        return self.policy(x), self.value(x)[0]


class NatureCnn(OverFrames):
    """The network of Mnih et al. 2015 with a policy head and a value head."""

    def __init__(self, spec: EnvSpec, key: jax.Array):
        super().__init__(spec, key, NatureTrunk)


def trunk_and_heads(key: jax.Array) -> jax.Array:
    """Keys for the convolutions, the layer after them, the policy head and the value head."""
    return jax.random.split(key, len(LAYERS) + 3)


def scaled(frames: jax.Array) -> jax.Array:
    """Bytes [stack, height, width] as numbers in [0, 1], channels last."""
    return jnp.moveaxis(frames, 0, -1).astype(jnp.float32) / 255


def convolve(x: jax.Array, weight: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Convolution without padding of an image [H, W, C] with `weight` [kernel * kernel * C, F], as one matrix product.

    Blocks of stride x stride pixels become channels first, so that a patch is a few whole blocks. The rows of `weight`
    run over blocks (down, across), then pixels within a block (down, across), then channels. `kernel` must be a
    multiple of `stride`.

    Check: equals `lax.conv_general_dilated` with the weights in its order.
    """
    height, width, channels = x.shape
    rows, columns = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    down, across = rows - 1 + kernel // stride, columns - 1 + kernel // stride
    x = x[: down * stride, : across * stride].reshape(down, stride, across, stride, channels)
    x = x.transpose(0, 2, 1, 3, 4).reshape(down, across, stride * stride * channels)
    blocks = kernel // stride
    shifts = [(i, j) for i in range(blocks) for j in range(blocks)]
    return jnp.concatenate([x[i : i + rows, j : j + columns] for i, j in shifts], -1) @ weight
