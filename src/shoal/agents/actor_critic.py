# SPDX-License-Identifier: Apache-2.0
"""A policy and a value for any observation and action: the agent of A2C, PPO and IMPALA, which differ in the objective.

Carries memory where the network does; normalises observations and rewards where the config says so.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from shoal.agents.base import Acting, Agent, Replayed
from shoal.agents.devices import acting_device
from shoal.agents.host_actions import host_actions
from shoal.agents.host_plan import place, plan_of
from shoal.agents.host_policy import Plan, acting_in_numpy
from shoal.agents.model import Model, flat_maker, layers_of, make_model, outline
from shoal.agents.objectives import Objective
from shoal.agents.statistics import Statistics, normalised_spec
from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, EnvSpec, PyTree, Trajectory, without_mask


def make_actor_critic(
    spec: EnvSpec, network: Callable[..., Any], objective: Callable[[Any], Objective], config: Any
) -> Agent:
    """The agent for one environment: `network(spec, key)` acts and values, `objective(config)` says what to minimise.

    The network is built for observations without mask, normalised where `config.normalise_obs` holds. Networks of plain
    layers act in NumPy, all others in JAX. Raises ConfigError where the network does not fit the environment: wrong
    head size, an observation it cannot take, memory of a changing form; or where there is nothing to normalise.

    Check: acting in NumPy and in JAX give the same actions, and log_prob equals the learner's at equal params.
    """
    minimised = objective(config)

    def learning(model: Model) -> Learning:
        return Learning(
            prepare=lambda params, trajectory: minimised.prepare(model, params, trajectory),
            loss=lambda params, batch: minimised.loss(model, params, batch),
        )

    return make_agent(spec, network, learning, config)


class Learning(NamedTuple):
    """How an agent learns; fields as in `Agent`."""

    prepare: Callable[[Array, Trajectory], Any]
    loss: Callable[[Array, Any], tuple[Array, dict[str, Array]]]
    replayed: Replayed | None = None


def make_agent(spec: EnvSpec, network: Callable[..., Any], learning: Callable[[Model], Learning], config: Any) -> Agent:
    """As `make_actor_critic`, for any way of learning over a model.

    Check: agents that learn in other ways act alike at equal params.
    """
    model, acts = ground(spec, network, config)
    return Agent(**acts, **learning(model)._asdict())


def ground(spec: EnvSpec, network: Callable[..., Any], config: Any) -> tuple[Model, dict[str, Any]]:
    """(the model over flat params, all of an agent but how it learns). Raises as `make_actor_critic` does."""
    seen = normalised_spec(spec.seen) if config.normalise_obs else spec.seen
    example = outline(network, seen)
    size = ravel_pytree(eqx.filter(example, eqx.is_inexact_array))[0].size
    statistics = Statistics(spec.seen, size, obs=config.normalise_obs, reward=config.normalise_reward)
    model = make_model(example, spec, statistics)
    plan = plan_of(example, statistics)
    sees_frames = plan is None and any(len(leaf.shape) == 3 for leaf in tree_leaves(spec.obs))
    draw = flat_maker(network, seen, compiled=sees_frames)
    device = acting_device(config)
    acting = acting_in_numpy(Plan.from_dict(plan), spec) if plan else _acting_in_jax(example, model, spec, device)

    def init(seed: int) -> np.ndarray:
        return np.concatenate([draw(seed), statistics.initial()])

    def policy(params: Array, obs: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        head, _, memory = model.heads(params, obs, memory)
        return model.distribution(params, head), memory

    def observe(params: Array, batch: Any) -> Array:
        return statistics.merge(params, batch, without_mask(batch.obs) if spec.masked else batch.obs)

    return model, {
        **vars(replace(acting, device=device)),
        "init": init,
        "policy": policy,
        "observe": observe,
        "layers": layers_of(eqx.filter(example, eqx.is_inexact_array)),
        "sees_frames": sees_frames,
        "plan": plan,
    }


def _acting_in_jax(example: Any, model: Model, spec: EnvSpec, device: Any) -> Acting:
    """How to act with a network that NumPy has no twin of: heads from a compiled call, their actions on the host."""
    actions = host_actions(spec.action)
    log_std_at = None if example.log_std is None else place(example, lambda m: m.log_std)

    @jax.jit
    def compiled_heads(params: Array, obs: PyTree, memory: PyTree) -> tuple[Array, PyTree]:
        head, _, memory = model.heads(params, obs, memory)
        return head, memory

    def bind(params: Array) -> tuple[Array, Array | None]:
        return jax.device_put(params, device), None if log_std_at is None else params[log_std_at]

    def act(bound: Any, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        params, log_std = bound
        head, memory = compiled_heads(params, obs, memory)
        head = np.asarray(head)
        return actions.sample(head, noise, log_std), head, tree_map(np.asarray, memory)

    return Acting(
        memory=lambda num_envs: tree_map(lambda one: np.repeat(one[None], num_envs, 0), model.initial_memory),
        bind=bind,
        act=act,
        log_prob=lambda bound, head, action: actions.log_prob(head, action, bound[1]),
        mode=actions.mode,
        noise=actions.noise,
        noise_size=spec.action.head_size,
        head_size=spec.action.head_size,
        recurrent=model.recurrent,
        compiled=True,
    )
