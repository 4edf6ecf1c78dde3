# SPDX-License-Identifier: Apache-2.0
"""What is to be measured: one environment, one network, and the real parts of an architecture over them."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from shoal.architectures import presets, registry
from shoal.architectures.assemble import environment_for, parts_around, working_origin
from shoal.architectures.base import Parts
from shoal.envs import EnvFactory
from shoal.envs.masks import mask_size
from shoal.networks.resolve import NetworkClass, resolve
from shoal.trees import tree_map
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, PyTree, Trajectory

SEED = 0
ENDLESS = 10**12
"""env_steps of a measured run: it is stopped by the clock, and the learning rate stays where it starts"""
HARMLESS_RATE = 1e-8
"""learning rate of all that is measured: with it numbers stay finite however often updates on made-up data repeat, and
one learner, compiled once for each shape of batch, is timed alone, traced and run"""


def endless(config: Any) -> Any:
    """The config for a run that only the clock ends."""
    return dataclasses.replace(config, env_steps=ENDLESS, seed=SEED)


class Workload(NamedTuple):
    """An architecture's module and parts on the environment and network in question."""

    architecture: str
    module: Any
    config: Any
    factory: EnvFactory
    network: NetworkClass
    params: np.ndarray
    """initial params, which `parts.agent.init` returns for every seed"""
    parts: Parts

    @property
    def spec(self) -> EnvSpec:
        """Of the environment."""
        return self.factory.spec


def make_workload(
    architecture: str,
    factory: EnvFactory,
    network: str,
    params: np.ndarray | None = None,
    fields: dict[str, Any] | None = None,
) -> Workload:
    """Real parts for an architecture's preset.

    Args:
      params: initial params of another architecture on the same environment and network; drawing them again for every
        learner would take longer than measuring.
      fields: in which the config departs from the preset.

    Raises:
      ConfigError: unknown architecture or network, or a network that does not fit the environment.
    """
    module = registry.load(architecture)
    preset = presets.preset(architecture, factory.spec)
    config = dataclasses.replace(endless(preset), **{"learning_rate": HARMLESS_RATE, **(fields or {})})
    factory = environment_for(config, factory)
    network_class = resolve(network, factory.spec)
    agent = module.make_agent(config, factory.spec, network_class)
    initial = agent.init(SEED) if params is None else params
    agent = dataclasses.replace(agent, init=lambda _: initial.copy())
    parts = parts_around(agent, module, config, factory)
    parts = parts._replace(origin=working_origin(agent, module, config, factory, network))
    return Workload(architecture, module, config, factory, network_class, initial, parts)


class OnDevice(eqx.Module):
    """A network that agents run in JAX, also where it is of a kind that they would run in NumPy."""

    inner: Any

    def __call__(self, obs: PyTree) -> Any:
        """What the network inside returns."""
        return self.inner(obs)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the network inside has: networks that carry memory are asked in several parts."""
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def device_agent(workload: Workload) -> Any:
    """The workload's agent, acting in JAX whatever its network."""
    network = workload.network
    return workload.module.make_agent(workload.config, workload.spec, lambda spec, key: OnDevice(network(spec, key)))


def made_up_obs(spec: EnvSpec, *leading: int) -> PyTree:
    """Random observations, a tree of [*leading, ...] in the environment's shapes and dtypes; all actions are legal."""
    generator = np.random.default_rng(SEED)

    def made_up(leaf: ArraySpec) -> np.ndarray:
        shape = (*leading, *leaf.shape)
        if np.dtype(leaf.dtype).kind == "f":
            return generator.standard_normal(shape, np.float32).astype(leaf.dtype)
        return generator.integers(1, 100, shape).astype(leaf.dtype)

    return tree_map(made_up, spec.obs)


def made_up_actions(spec: EnvSpec, *leading: int) -> np.ndarray:
    """Random actions [*leading, ...] on the agent's scale: indices, or numbers in [-1, 1]."""
    generator = np.random.default_rng(SEED)
    if isinstance(spec.action, Box):
        return generator.uniform(-1, 1, (*leading, *spec.action.shape)).astype(np.float32)
    sizes = spec.action.n if isinstance(spec.action, Discrete) else spec.action.sizes
    return generator.integers(0, sizes, (*leading, *spec.action.shape), np.int32)


def made_up_choices(spec: EnvSpec, *leading: int) -> np.ndarray | None:
    """Random preferences [*leading, n] among actions; None where every action is legal at all times."""
    return np.random.default_rng(SEED).random((*leading, mask_size(spec.action))) if spec.masked else None


def made_up_trajectory(workload: Workload, length: int, num_envs: int) -> Trajectory:
    """A trajectory [length, num_envs] of the right shapes, for timing updates without waiting for a simulator."""
    shape = (length, num_envs)
    none = np.zeros(shape, bool)
    return Trajectory(
        obs=made_up_obs(workload.spec, length + 1, num_envs),
        action=made_up_actions(workload.spec, *shape),
        reward=np.random.default_rng(SEED).standard_normal(shape, np.float32),
        terminated=none,
        truncated=none,
        valid=~none,
        log_prob=np.full(shape, -1.0, np.float32),
        memory=workload.parts.agent.memory(num_envs),
        version=np.zeros(num_envs, np.int64),
        episode_return=np.full(shape, np.nan, np.float32),
        episode_length=np.zeros(shape, np.int32),
        discounted_return=np.zeros(shape, np.float32) if workload.config.normalise_reward else (),
    )
