# SPDX-License-Identifier: Apache-2.0
"""Q-learning with memory, from sequences of a replay: the agent of R2D2 (Kapturowski et al. 2019)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.action_values import legal_values, make_valuing, seen
from shoal.agents.actor_critic import Learning
from shoal.agents.base import Agent, Replayed
from shoal.agents.host_values import Reading
from shoal.agents.model import Model
from shoal.agents.objectives import flat, learning_reward
from shoal.agents.replayed import learning_by
from shoal.losses import action_values as av
from shoal.losses.returns import n_step_returns
from shoal.trees import tree_map
from shoal.types import Array, EnvSpec, PyTree, Sequences, Trajectory


def make_recurrent_q(spec: EnvSpec, network: Callable[..., Any], config: Any) -> Agent:
    """The agent for one environment; a network without memory is learnt from the same sequences.

    Raises ConfigError for other actions than one whole number.

    Check: without burn-in and rescaling it is n-step Q-learning's error of every row.
    """

    def learning(model: Model, reading: Reading) -> Learning:
        values = partial(_values, model, reading, spec)
        replayed, in_whole = (
            Replayed(partial(_loss, config, values, _first_memory(config, model), burn_in))
            for burn_in in (config.burn_in, 0)
        )
        return learning_by(in_whole, model.size, _in_whole)._replace(replayed=replayed)

    return make_valuing(spec, network, learning, config, dueling=config.dueling)


def _in_whole(_params: Array, trajectory: Trajectory) -> Sequences:
    """An unroll as sequences, all of whose rows are learnt from."""
    return Sequences(trajectory, jnp.ones(trajectory.reward.shape[1]), key=(), priority=())


def _first_memory(config: Any, model: Model) -> Callable[[Trajectory], PyTree]:
    """Memory before the first row: the one that acted; or, an ablation, none of it."""

    def empty(steps: Trajectory) -> PyTree:
        envs = steps.reward.shape[1]
        return tree_map(lambda one: jnp.broadcast_to(one, (envs, *one.shape)), model.initial_memory)

    return (lambda steps: steps.memory) if config.stored_memory else empty


def _values(
    model: Model, reading: Reading, spec: EnvSpec, params: Array, steps: Trajectory, memory: PyTree, begin: int
):
    """Values [L + 1 - begin, N, A] of the observations from row `begin` on. The rows before bring memory up to date,
    without gradient."""
    goes_on = jnp.concatenate([steps.valid, jnp.ones_like(steps.valid[:1])])
    if begin:
        before = tree_map(lambda leaf: leaf[:begin], seen(spec, steps.obs))
        _, memory = model.in_order(params, before, goes_on[:begin], memory)
        memory = jax.lax.stop_gradient(memory)
    obs = tree_map(lambda leaf: leaf[begin:], steps.obs)
    head, _ = model.in_order(params, seen(spec, obs), goes_on[begin:], memory)
    return legal_values(reading, spec, head, obs)


def _loss(  # noqa: PLR0913 - what is fixed when the agent is made, and what a loss is given
    config: Any,
    values: Callable,
    first_memory: Callable,
    burn_in: int,
    params: Array,
    target: Array,
    batch: Sequences,
    _key: Array,
):
    """Half the squared error to targets of `n_step` steps, those on the scale of `rescale`, averaged over the rows that
    are learnt from. A sequence's error is eta * max + (1 - eta) * mean over its rows."""
    memory = first_memory(batch.steps)
    q, held = (values(p, batch.steps, memory, burn_in) for p in (params, target))
    future = av.double(held, jax.lax.stop_gradient(q)) if config.double_q else av.greedy(held)
    columns = ("action", "reward", "terminated", "truncated", "valid")
    action, reward, *flags = (getattr(batch.steps, name)[burn_in:] for name in columns)
    reward = learning_reward(reward, config.reward_scale, config.reward_clip)
    future = av.unscale(future) if config.rescale_values else future
    aim = n_step_returns(reward, future, *flags, discount=config.discount, steps=config.n_step)
    aim = av.rescale(aim) if config.rescale_values else aim
    valid = flags[-1]
    error = jnp.where(valid, jax.lax.stop_gradient(aim) - av.of_action(q[:-1], jnp.where(valid, action, 0)), 0.0)
    loss = av.weighed(flat(av.huber(error, None)), flat(valid * batch.weight))
    size = jax.lax.stop_gradient(jnp.abs(error))
    mean = size.sum(0) / jnp.maximum(valid.sum(0), 1)
    share = config.priority_max_share
    metrics = {"loss/value": loss, "loss/value_mean": jnp.mean(av.greedy(q))}
    return loss, (share * size.max(0) + (1.0 - share) * mean, metrics)
