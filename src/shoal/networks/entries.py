# SPDX-License-Identifier: Apache-2.0
"""A network for observations of several entries: each through its own encoder, then towers for policy and value."""

from typing import Any

import equinox as eqx
import jax

from shoal.networks.conv import NatureTrunk
from shoal.networks.encoders import UNITS, Encoder, FrameTrunk
from shoal.networks.impala import ImpalaTrunk
from shoal.networks.initialise import orthogonal_layers
from shoal.networks.mlp import run_tower
from shoal.types import EnvSpec


class Entries(eqx.Module):
    """64 tanh units for each entry of numbers, a trunk of convolutions for each entry of frames; their features side by
    side go through 64 tanh units for the policy and 64 others for the value.

    Check: the head changes with every entry.
    """

    encoder: Encoder
    policy: tuple[eqx.nn.Linear, ...]
    value: tuple[eqx.nn.Linear, ...]

    def __init__(self, spec: EnvSpec, key: jax.Array, frames: FrameTrunk = NatureTrunk):
        encoder_key, policy_key, value_key = jax.random.split(key, 3)
        self.encoder = Encoder(spec.obs, frames, encoder_key)
        self.policy = orthogonal_layers((self.encoder.size, UNITS, spec.action.head_size), 0.01, policy_key)
        self.value = orthogonal_layers((self.encoder.size, UNITS, 1), 1.0, value_key)

    def __call__(self, obs: Any) -> tuple[jax.Array, jax.Array]:
        """Head [K] and value [] of one observation, a tree of [...]."""
        x = self.encoder(obs)
        return run_tower(self.policy, x), run_tower(self.value, x)[0]


class EntriesImpala(Entries):
    """The same with the residual trunk for entries of frames."""

    def __init__(self, spec: EnvSpec, key: jax.Array):
        super().__init__(spec, key, ImpalaTrunk)
