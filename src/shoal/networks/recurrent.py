# SPDX-License-Identifier: Apache-2.0
"""Networks that remember: an encoder for the observation, a cell that carries memory, a policy and a value on top.

What does not depend on memory is kept out of `step`, so that a learner runs it over all rows of an unroll at once.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from shoal.networks.conv import NatureTrunk
from shoal.networks.encoders import Encoder, FrameTrunk, holds_frames
from shoal.networks.initialise import orthogonal_linear
from shoal.trees import tree_leaves
from shoal.types import EnvSpec

UNITS, UNITS_OVER_FRAMES = 64, 128
KEEP_BIAS = 1.0
"""of the LSTM's forget gate and the GRU's update gate: of gates near 1 memory is kept"""


class Recurrent(eqx.Module):
    """What LSTM and GRU share: a cell of 64 units, 128 over frames.

    `initial_memory` gives one environment's memory at the start of an episode, `encode` an observation's share of all
    gates, `step` output and memory from it, `heads` policy head and value of an output. Weights to each gate are
    orthogonal.
    """

    gates: ClassVar[int]

    encoder: Encoder
    inputs: eqx.nn.Linear
    recurrent: eqx.nn.Linear
    policy: eqx.nn.Linear
    value: eqx.nn.Linear
    units: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, key: jax.Array, frames: FrameTrunk = NatureTrunk):
        keys = jax.random.split(key, 5)
        over_frames = any(holds_frames(leaf) for leaf in tree_leaves(spec.obs))
        self.units = UNITS_OVER_FRAMES if over_frames else UNITS
        self.encoder = Encoder(spec.obs, frames, keys[0])
        self.inputs = _gates(self.encoder.size, self.units, self.gates, keys[1], keep_bias=KEEP_BIAS)
        self.recurrent = _gates(self.units, self.units, self.gates, keys[2], keep_bias=0.0)
        self.policy = orthogonal_linear(self.units, spec.action.head_size, 0.01, keys[3])
        self.value = orthogonal_linear(self.units, 1, 1.0, keys[4])

    def encode(self, obs: Any) -> jax.Array:
        """The observation's share of all gates [gates * H]."""
        return self.inputs(self.encoder(obs))

    def heads(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of an output [H]."""
        return self.policy(y), self.value(y)[0]


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gates, whose biases begin at 1 (Jozefowicz et
    al. 2015, section 3.3). Memory is (output [H], carried [H]).

    Check: with its gates set by hand the cell keeps, forgets and takes in what it should.
    """

    gates: ClassVar[int] = 4

    def initial_memory(self) -> tuple[np.ndarray, np.ndarray]:
        """Zeros."""
        zeros = np.zeros(self.units, np.float32)
        return zeros, zeros

    def step(self, x: jax.Array, memory: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        """Output [H] and memory after x [4 * H]; gates in order: write, keep, show, candidate."""
        output, carried = memory
        opened, candidate = jnp.split(x + self.recurrent(output), [3 * self.units])
        write, keep, show = jnp.split(jax.nn.sigmoid(opened), 3)
        carried = keep * carried + write * jnp.tanh(candidate)
        output = show * jnp.tanh(carried)
        return output, (output, carried)


class Gru(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate behind the matrix; update gates keep where they are 1
    and begin with a bias of 1. Memory is the output [H].

    Check: with its gates set by hand the cell keeps, forgets and takes in what it should.
    """

    gates: ClassVar[int] = 3

    def initial_memory(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.units, np.float32)

    def step(self, x: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Output [H], which is also the memory, after x [3 * H]; gates in order: reset, keep, candidate."""
        seen, remembered = jnp.split(x, 3), jnp.split(self.recurrent(memory), 3)
        reset, keep = (jax.nn.sigmoid(a + b) for a, b in zip(seen[:2], remembered[:2], strict=True))
        candidate = jnp.tanh(seen[2] + reset * remembered[2])
        output = candidate + keep * (memory - candidate)
        return output, output


def _gates(inputs: int, units: int, gates: int, key: jax.Array, *, keep_bias: float) -> eqx.nn.Linear:
    """A layer [gates * units, inputs] in which the weights of each gate are orthogonal; the second gate keeps."""
    parts = [orthogonal_linear(inputs, units, 1.0, one) for one in jax.random.split(key, gates)]
    layer = eqx.nn.Linear(inputs, gates * units, key=key)
    weight = jnp.concatenate([part.weight for part in parts])
    bias = jnp.zeros(gates * units).at[units : 2 * units].set(keep_bias)
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, bias))
