# SPDX-License-Identifier: Apache-2.0
"""A policy and a value for Discrete or Box actions: the agent of A2C, PPO and IMPALA, which differ in the objective."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from shoal.agents import host_math, host_policy
from shoal.agents.base import Agent
from shoal.agents.objectives import Objective
from shoal.errors import ConfigError
from shoal.losses.distributions import Categorical, DiagGaussian
from shoal.networks.initialise import head_size
from shoal.networks.mlp import Mlp
from shoal.types import Array, Discrete, EnvSpec

INITIAL_LOG_STD = 0.0


class ActorCritic(eqx.Module):
    """The network and, for Box actions, one log standard deviation per dimension that no observation changes."""

    network: Any
    log_std: jax.Array | None


def make_actor_critic(spec: EnvSpec, network: Callable[..., Any], objective: Objective) -> Agent:
    """The agent for one environment: `network(spec, key)` acts and values, `objective` says what to minimise.

    Networks that are plain towers act in NumPy, all others in JAX. Raises ConfigError where the network does not fit
    the environment: wrong head size, or an observation it cannot take.

    Check: acting in NumPy and in JAX give the same actions, and log_prob equals the learner's at equal params.
    """
    model = build(network, spec, seed=0)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)  # whole numbers are constants, not params
    _, unravel = ravel_pytree(arrays)

    def policy_and_value(params: Array, obs: Array) -> tuple[Categorical | DiagGaussian, Array]:
        model = eqx.combine(unravel(params), static)
        head, value = jax.vmap(model.network)(obs)
        return _distribution(head, model.log_std), value

    def init(seed: int) -> np.ndarray:
        fresh = eqx.filter(build(network, spec, seed), eqx.is_inexact_array)
        return np.array(ravel_pytree(fresh)[0])

    bind, act, log_prob = _acting(model, spec, policy_and_value)
    discrete = isinstance(spec.action, Discrete)
    return Agent(
        init=init,
        memory=lambda _: (),
        bind=bind,
        act=act,
        log_prob=log_prob,
        mode=(lambda head: np.argmax(head, -1)) if discrete else (lambda head: head.reshape(-1, *spec.action.shape)),
        prepare=lambda params, trajectory: objective.prepare(policy_and_value, params, trajectory),
        loss=lambda params, batch: objective.loss(policy_and_value, params, batch),
        noise="gumbel" if discrete else "normal",
        noise_size=head_size(spec),
        sees_frames=len(spec.obs.shape) == 3,
    )


def build(network: Callable[..., Any], spec: EnvSpec, seed: int) -> ActorCritic:
    """The module for a seed. Raises ConfigError where one observation does not give a head and a value."""
    name = getattr(network, "__name__", str(network))
    log_std = None if isinstance(spec.action, Discrete) else jnp.full(spec.action.shape, INITIAL_LOG_STD)
    try:
        model = ActorCritic(network(spec, jax.random.key(seed)), log_std)
        obs = jax.ShapeDtypeStruct(spec.obs.shape, spec.obs.dtype)
        head, value = eqx.filter_eval_shape(lambda m, o: m.network(o), model, obs)
    except Exception as fault:
        raise ConfigError(
            f"network {name} cannot be built for {spec.id} or take its observation {list(spec.obs.shape)}: "
            f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else 'no message'}; "
            "build it as Network(spec, key) and call it on one observation"
        ) from fault
    if head.shape != (head_size(spec),) or value.shape != ():
        raise ConfigError(
            f"network {name} returns shapes {head.shape} and {value.shape}; {spec.id} needs a head "
            f"({head_size(spec)},) and a value ()"
        )
    return model


def _distribution(head: Array, log_std: Array | None) -> Categorical | DiagGaussian:
    return Categorical(head) if log_std is None else DiagGaussian(head, jnp.ravel(log_std))


def _acting(model: ActorCritic, spec: EnvSpec, policy_and_value: Callable) -> tuple[Callable, Callable, Callable]:
    """bind, act and log_prob: on the host for plain towers, compiled for any other network."""
    # a subclass of Mlp may compute something else
    tower = _tower_places(model) if type(model.network) is Mlp else None
    log_std_at = _place(model, lambda m: m.log_std) if model.log_std is not None else None

    @jax.jit
    def compiled_head(params, obs):
        distribution, _ = policy_and_value(params, obs)
        return distribution[0]

    def bind(params):
        log_std = None if log_std_at is None else params[log_std_at]
        return (jnp.asarray(params) if tower is None else host_policy.bind_tower(tower, params)), log_std

    def act(bound, obs, memory, noise):
        weights, log_std = bound
        head = np.asarray(compiled_head(weights, obs)) if tower is None else host_policy.run_tower(weights, obs)
        if log_std is None:
            return host_math.sample_categorical(head, noise), head, memory
        return host_math.sample_gaussian(head, log_std, noise).reshape(-1, *spec.action.shape), head, memory

    def log_prob(bound, head, action):
        if bound[1] is None:
            return host_math.log_prob_categorical(head, action)
        return host_math.log_prob_gaussian(head, bound[1], action.reshape(head.shape))

    return bind, act, log_prob


def _place(model: ActorCritic, where: Callable) -> slice:
    """The slice of flat params that holds one array of the model."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    marked = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), arrays)
    marked = eqx.tree_at(where, marked, np.ones(where(arrays).shape, np.float32))
    ones = np.flatnonzero(np.asarray(ravel_pytree(marked)[0]))
    return slice(int(ones[0]), int(ones[-1]) + 1)


def _tower_places(model: ActorCritic) -> host_policy.Tower:
    layers = []
    for index, layer in enumerate(model.network.policy):
        weight = _place(model, lambda m, i=index: m.network.policy[i].weight)
        bias = _place(model, lambda m, i=index: m.network.policy[i].bias)
        if bias.start != weight.stop:
            raise AssertionError("a layer's bias no longer follows its weight in the flat params: mend host_policy")
        layers.append((weight.start, layer.in_features, layer.out_features))
    return host_policy.Tower(tuple(layers))
