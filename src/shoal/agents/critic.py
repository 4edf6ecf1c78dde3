# SPDX-License-Identifier: Apache-2.0
"""What actions that are real numbers are worth, by a network over an observation and an action."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from shoal.agents.host_plan import layers_behind
from shoal.agents.host_policy import Layer, value_by
from shoal.agents.model import build, layers_of, make_model, outline
from shoal.agents.statistics import Statistics
from shoal.networks.mlp import Mlp
from shoal.networks.resolve import resolve
from shoal.trees import tree_map
from shoal.types import Array, ArraySpec, Discrete, EnvSpec, PyTree


class Critic:
    """Two values of an action, by params that come behind `begin` others.

    They are a network's value and its head, a single number: those of an `Mlp` have nothing in common, others share
    what comes before. Where an observation is one row of numbers the action is put behind it, and the network is of
    the policy's kind; else both are entries of an observation, and each entry has an encoder.

    Check: values in NumPy equal those in JAX.
    """

    def __init__(self, spec: EnvSpec, network: Callable[..., Any], dims: int, begin: int):
        self._plain = isinstance(spec.obs, ArraySpec) and len(spec.obs.shape) == 1
        obs = {"action": ArraySpec((dims,), "float32"), "obs": spec.obs}
        if self._plain:
            obs = ArraySpec((spec.obs.shape[0] + dims,), "float32")
        self._spec = replace(spec, obs=obs, action=Discrete(1))
        self._network = network if self._plain else resolve("auto", self._spec)
        example = outline(self._network, self._spec)
        arrays = eqx.filter(example, eqx.is_inexact_array)
        size = ravel_pytree(arrays)[0].size
        self._at, self.end = slice(begin, begin + size), begin + size
        self._model = make_model(example, self._spec, Statistics(self._spec, size, obs=False, reward=False))
        self.layers = {f"critic.{name}": (begin + a, begin + b) for name, (a, b) in layers_of(arrays).items()}
        is_mlp = self._plain and type(example.network) is Mlp
        layers = layers_behind(example, lambda m: m.network.value, begin) if is_mlp else None
        self.plan = None if layers is None else tuple(asdict(layer) for layer in layers)
        """layers of its value, for NumPy; None where it takes JAX"""
        self._compiled = jax.jit(lambda params, obs, action: self.values(params, obs, action)[0])

    def init(self, seed: int) -> np.ndarray:
        """Its params."""
        fresh = eqx.filter(build(self._network, self._spec, jax.random.key(seed)), eqx.is_inexact_array)
        return np.asarray(ravel_pytree(fresh)[0])

    def values(self, params: Array, obs: PyTree, action: Array) -> tuple[Array, Array]:
        """Two values [N] of actions [N, D] in observations [N, ...], under all params."""
        seen = {"action": action, "obs": obs}
        if self._plain:
            seen = jnp.concatenate([obs.astype(jnp.float32), action], -1)
        head, value, _ = self._model.heads(params[self._at], seen, ())
        return value, head[:, 0]

    def value(self, params: Array) -> Callable[[PyTree, Array], Array]:
        """The first of both, for actors: (obs [T, B, ...], action [T, B, D]) -> [T, B] on the host."""
        if self.plan is not None:
            return value_by(tuple(Layer(**layer) for layer in self.plan))(params)

        def of(obs: PyTree, action: Array) -> Array:
            lead = action.shape[:-1]
            rows = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), obs)
            return np.asarray(self._compiled(params, rows, action.reshape(-1, action.shape[-1]))).reshape(lead)

        return of
