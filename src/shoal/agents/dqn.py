# SPDX-License-Identifier: Apache-2.0
"""Deep Q-learning from a replay memory: double, dueling, of several steps, with plain values or distributions."""

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
from shoal.agents.replayed import batch_of, learning_by, rows_in, side_by_side
from shoal.errors import ConfigError
from shoal.losses import action_values as av
from shoal.losses import distributional
from shoal.types import Array, Batch, EnvSpec, PyTree

HUBER = 1.0
"""errors beyond it pull no harder (Mnih et al. 2015, methods)"""


def make_dqn(spec: EnvSpec, network: Callable[..., Any], config: Any) -> Agent:
    """The agent for one environment. Branches of a dueling network share all of its layers but the last.

    Raises ConfigError for other actions than one whole number, and for networks that carry memory.

    Check: with one atom-free head, one step and neither double nor dueling it is Q-learning's error of every row.
    """
    form = {"dueling": config.dueling, "atoms": config.atoms, "low": config.value_low, "high": config.value_high}

    def learning(model: Model, reading: Reading) -> Learning:
        rows = Rows(model, reading, spec, double=config.double_q)
        loss = partial(_of_distributions if config.atoms else _of_values, rows)
        return learning_by(Replayed(loss), model.size, partial(batch_of, config, model))

    agent = make_valuing(spec, network, learning, config, **form)
    if agent.recurrent:
        raise ConfigError("dqn learns from rows in no order, so it carries no memory; use another network, or r2d2")
    return agent


class Rows:
    """What a batch's observations are worth under the params that learn and those that targets are made with.

    Args:
      double: let the former choose the action whose value the latter give (van Hasselt et al. 2016).
    """

    def __init__(self, model: Model, reading: Reading, spec: EnvSpec, *, double: bool):
        self._model, self._spec, self._double = model, spec, double
        self.reading = reading

    def heads(self, params: Array, obs: PyTree) -> Array:
        """Heads [N, outputs]."""
        return self._model.heads(params, seen(self._spec, obs), ())[0]

    def values(self, head: Array, obs: PyTree) -> Array:
        """Values [N, A], -inf for illegal actions."""
        return legal_values(self.reading, self._spec, head, obs)

    def now_and_next(self, params: Array, target: Array, batch: Batch) -> tuple[Array, Array, Array]:
        """(heads of the observations, the target's heads of those that they led to, the action chosen there [N])."""
        led_to = self.heads(target, batch.next_obs)
        if not self._double:
            return self.heads(params, batch.obs), led_to, jnp.argmax(self.values(led_to, batch.next_obs), -1)
        both = self.heads(params, side_by_side(batch.obs, batch.next_obs))
        now, then = jnp.split(both, [rows_in(batch.obs)])
        return now, led_to, jnp.argmax(self.values(jax.lax.stop_gradient(then), batch.next_obs), -1)


def _of_values(rows: Rows, params: Array, target: Array, batch: Batch, _key: Array):
    """Huber's loss on r + discount * Q(next obs, chosen) - Q(obs, action)."""
    now, led_to, chosen = rows.now_and_next(params, target, batch)
    future = av.of_action(rows.values(led_to, batch.next_obs), chosen)
    q = rows.values(now, batch.obs)
    error = av.target_of(batch.reward, batch.discount, future) - av.of_action(q, batch.action)
    loss = av.weighed(av.huber(error, HUBER), batch.weight)
    metrics = {"loss/value": loss, "loss/value_mean": jnp.mean(av.greedy(q))}
    return loss, (jax.lax.stop_gradient(jnp.abs(error)), metrics)


def _of_distributions(rows: Rows, params: Array, target: Array, batch: Batch, _key: Array):
    """Cross-entropy to the target's distribution, moved by the reward and projected (Bellemare et al. 2017). A row's
    error is the divergence."""
    reading = rows.reading
    now, led_to, chosen = rows.now_and_next(params, target, batch)
    atoms = jnp.linspace(reading.low, reading.high, reading.atoms)
    moved = batch.reward[:, None] + batch.discount[:, None] * atoms
    aim = distributional.project(moved, jax.nn.softmax(_of(reading, led_to, chosen)), reading.low, reading.high)
    logits = _of(reading, now, batch.action)
    loss = av.weighed(distributional.cross_entropy(aim, logits), batch.weight)
    metrics = {"loss/value": loss, "loss/value_mean": jnp.mean(av.greedy(rows.values(now, batch.obs)))}
    return loss, (distributional.divergence(aim, logits), metrics)


def _of(reading: Reading, head: Array, action: Array) -> Array:
    """Logits [N, atoms] of one action [N] of each head. Selected by a mask: a gather's gradient is slow on CPU."""
    taken = jax.nn.one_hot(action, reading.actions)[..., None]
    return jnp.sum(reading.entries(head) * taken, -2)
