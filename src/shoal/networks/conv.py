# SPDX-License-Identifier: Apache-2.0
"""The Nature convolutional network for stacked 84x84 frames, one trunk for policy and value."""

import equinox as eqx
import jax
import jax.numpy as jnp

from shoal.networks.initialise import head_size, orthogonal_linear
from shoal.types import EnvSpec

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""(filters, kernel, stride) of Mnih et al. 2015, Methods"""


class NatureCnn(eqx.Module):
    """Three convolutions and 512 relu units (Mnih et al. 2015), with a policy head and a value head on top.

    Takes frames [stack, height, width] in uint8, scaled to [0, 1] inside, so that frames travel as bytes.

    Convolutions are written as matrix products over patches: on a CPU their gradient is about twice as fast as that
    of the library's convolution.

    Check: the head of a batch equals the heads of its rows one by one, and `convolve` equals the library's convolution.
    """

    filters: tuple[jax.Array, ...]
    biases: tuple[jax.Array, ...]
    hidden: eqx.nn.Linear
    policy: eqx.nn.Linear
    value: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, key: jax.Array):
        keys = jax.random.split(key, len(LAYERS) + 3)
        channels, height, width = spec.obs.shape
        filters = []
        for (count, kernel, stride), layer_key in zip(LAYERS, keys, strict=False):
            initial = jax.nn.initializers.orthogonal(2**0.5)
            filters.append(initial(layer_key, (kernel * kernel * channels, count)))
            channels, height, width = count, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.filters = tuple(filters)
        self.biases = tuple(jnp.zeros(count) for count, _, _ in LAYERS)
        self.hidden = orthogonal_linear(channels * height * width, 512, 2**0.5, keys[-3])
        self.policy = orthogonal_linear(512, head_size(spec), 0.01, keys[-2])
        self.value = orthogonal_linear(512, 1, 1.0, keys[-1])

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of one stack of frames [stack, height, width]."""
        x = jnp.moveaxis(obs, 0, -1).astype(jnp.float32) / 255
        for weight, bias, (_, kernel, stride) in zip(self.filters, self.biases, LAYERS, strict=True):
            x = jax.nn.relu(convolve(x, weight, kernel, stride) + bias)
        x = jax.nn.relu(self.hidden(jnp.ravel(x)))
        return self.policy(x), self.value(x)[0]


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
