# SPDX-License-Identifier: Apache-2.0
"""What an actor-critic minimises: plain advantages (A2C), the clipped surrogate (PPO), V-trace (IMPALA), both (APPO).

An objective has two functions over a `Model`: `prepare` turns a trajectory into what `loss` trains on, once per batch;
`loss` may then run on shuffled parts of it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.agents.model import Distribution, Model
from shoal.losses import policy_gradient as pg
from shoal.losses.returns import Advantage, VTrace, gae, vtrace
from shoal.trees import tree_map
from shoal.types import Array, PyTree, Trajectory


class Objective(NamedTuple):
    """The two functions; see the module."""

    prepare: Callable[[Model, Array, Trajectory], Any]
    loss: Callable[[Model, Array, Any], tuple[Array, dict[str, Array]]]


class Samples(NamedTuple):
    """A batch as PPO shuffles it: N = T * B rows in no order; or, where memory is carried, B environments with all
    their rows in order, [B, T, ...], of which `obs` has one more."""

    obs: PyTree
    """[N, ...]"""
    action: Array
    """[N] or [N, D]"""
    log_prob: Array
    """[N] of the action when it was taken"""
    advantage: Array
    """[N] in scaled reward units"""
    target: Array
    """[N] for the value, in scaled reward units"""
    weight: Array
    """[N] bool: valid rows"""
    memory: PyTree
    """() or, where memory is carried, [B, ...] before the first row"""


def learning_reward(reward: Array, scale: float, clip: float | None) -> Array:
    """Rewards [T, B] as learning sees them: scaled, then clipped to [-clip, clip]. Trajectories keep the raw ones."""
    reward = reward * scale
    return reward if clip is None else jnp.clip(reward, -clip, clip)


def flat(x: Array) -> Array:
    """[T, B, ...] -> [T * B, ...]."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def counted_actions(action: Array, valid: Array) -> Array:
    """Actions [T, B, ...] as [T * B], or [T * B, D] for several choices and for Box actions, 0 where not valid.

    Reset rows are cleared before any arithmetic: a log-probability that is not finite would spoil the gradient of the
    whole batch even at weight 0.
    """
    rows = flat(action)
    if jnp.issubdtype(rows.dtype, jnp.integer):
        return jnp.where(flat(valid).reshape(-1, *(1,) * (rows.ndim - 1)), rows, 0)
    return jnp.where(flat(valid)[:, None], rows.reshape(len(rows), -1), 0.0)


def rewards_learnt(config: Any, model: Model, params: Array, reward: Array) -> Array:
    """Rewards [T, B] as learning sees them: in the returns' deviations where asked for, then scaled and clipped."""
    return learning_reward(model.statistics.scale_reward(params, reward), config.reward_scale, config.reward_clip)


def estimate_advantage(config: Any, batch: Trajectory, reward: Array, value: Array) -> Advantage:
    """GAE of a trajectory [T, B] under learning rewards [T, B] and values [T+1, B], with the config's discounts."""
    flags = (batch.terminated, batch.truncated, batch.valid)
    return gae(reward, value, *flags, discount=config.discount, trace_decay=config.trace_decay)


def estimate_off_policy(
    config: Any, model: Model, params: Array, batch: Trajectory, log_ratio: Array, value: Array
) -> VTrace:
    """V-trace of a trajectory [T, B] under values [T+1, B] and log-ratios [T, B], without gradient.

    `config.correction` "none" fixes every ratio at 1: the ablation that shows what V-trace is for.
    """
    used = log_ratio if config.correction == "vtrace" else jnp.zeros_like(log_ratio)
    reward = rewards_learnt(config, model, params, batch.reward)
    return vtrace(
        reward, value, batch.terminated, batch.truncated, batch.valid, used,
        discount=config.discount, trace_decay=config.trace_decay, max_ratio=config.max_ratio,
        max_trace=config.max_trace, max_pg_ratio=config.max_ratio,
    )  # fmt: skip


def actor_critic(config: Any) -> Objective:
    """Advantage actor-critic on GAE (Mnih et al. 2016, section 4; Schulman et al. 2016, equation 16).

    Check: with trace_decay 1 the value target is the n-step return to the end of the unroll.
    """

    def loss(model: Model, params: Array, batch: Trajectory):
        distribution, value = model.unroll(params, batch.obs, batch.valid, batch.memory)
        reward = rewards_learnt(config, model, params, batch.reward)
        estimate = estimate_advantage(config, batch, reward, value)
        weight = flat(batch.valid)
        advantage = flat(estimate.advantage)
        if config.normalise_advantage:
            advantage = pg.normalise(advantage, weight)
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid))
        policy = pg.policy_gradient_loss(log_prob, advantage, weight)
        return _total(config, policy, flat(value[:-1]), flat(estimate.target), distribution, weight, {})

    return Objective(lambda _, __, trajectory: trajectory, loss)


def explored_actor_critic(config: Any) -> Objective:
    """As `actor_critic`, with the weight of the entropy bonus as the last of the params: each worker has its own.

    Check: with `config.entropy_cost` as that number it equals `actor_critic`.
    """
    plain = actor_critic(replace(config, entropy_cost=0.0))

    def loss(model: Model, params: Array, batch: Trajectory):
        total, metrics = plain.loss(model, params, batch)
        return total - jax.lax.stop_gradient(params[-1]) * metrics["loss/entropy"], metrics

    return Objective(plain.prepare, loss)


def surrogate(config: Any) -> Objective:
    """PPO's clipped surrogate (Schulman et al. 2017, equations 7 and 9) on advantages fixed when the batch arrived.

    Check: on the first pass its gradient is the policy gradient's.
    """

    def prepare(model: Model, params: Array, batch: Trajectory) -> Samples:
        _, value = model.unroll(params, batch.obs, batch.valid, batch.memory)
        reward = rewards_learnt(config, model, params, batch.reward)
        return cut_up(model, batch, batch.log_prob, estimate_advantage(config, batch, reward, value))

    return Objective(prepare, partial(_clipped_loss, config))


def off_policy_surrogate(config: Any) -> Objective:
    """RLlib's APPO: the clipped surrogate on V-trace targets and advantages, for batches of older policies.

    Both are fixed when the batch arrives, under the params it arrives at. V-trace corrects from the policy that acted
    to those; from there on the probability ratio counts, and is clipped. (RLlib keeps a target network for that place.)

    Check: on the first pass its gradient is that of `off_policy_actor_critic`; on data of the learner's own policy it
    is `surrogate`.
    """

    def prepare(model: Model, params: Array, batch: Trajectory) -> Samples:
        distribution, value = model.unroll(params, batch.obs, batch.valid, batch.memory)
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid)).reshape(batch.log_prob.shape)
        estimate = estimate_off_policy(config, model, params, batch, log_prob - batch.log_prob, value)
        return cut_up(model, batch, log_prob, estimate)

    return Objective(prepare, partial(_clipped_loss, config))


def cut_up(model: Model, batch: Trajectory, log_prob: Array, estimate: Advantage | VTrace) -> Samples:
    """A trajectory, log-probabilities [T, B] and an estimate as rows in no order, or whole environments."""
    columns = (log_prob, estimate.advantage, estimate.target, batch.valid)
    if model.recurrent:
        obs, action, *columns = tree_map(environments_first, (batch.obs, batch.action, *columns))
        return Samples(obs, action, *columns, memory=batch.memory)
    obs = tree_map(lambda leaf: flat(leaf[:-1]), batch.obs)
    return Samples(obs, counted_actions(batch.action, batch.valid), *(flat(x) for x in columns), memory=())


def _clipped_loss(config: Any, model: Model, params: Array, batch: Samples) -> tuple[Array, dict[str, Array]]:
    distribution, value, batch = under(model, params, batch)
    advantage = batch.advantage
    if config.normalise_advantage:
        advantage = pg.normalise(advantage, batch.weight)
    policy = pg.clipped_surrogate(
        distribution.log_prob(batch.action), batch.log_prob, advantage, batch.weight, clip=config.clip
    )
    extra = {"loss/approx_kl": policy.approx_kl, "loss/clip_frac": policy.clip_frac}
    return _total(config, policy.loss, value, batch.target, distribution, batch.weight, extra)


def under(model: Model, params: Array, batch: Samples) -> tuple[Distribution, Array, Samples]:
    """Policy and value [N] of samples, and their columns as rows [N, ...]: sequences are run through and laid out."""
    if not model.recurrent:
        head, value, _ = model.heads(params, batch.obs, ())
        return model.distribution(params, head), value, batch
    rows = tree_map(environments_first, batch._replace(memory=()))  # back: time first
    distribution, value = model.unroll(params, rows.obs, rows.weight, batch.memory)
    action = counted_actions(rows.action, rows.weight)
    columns = {name: flat(getattr(rows, name)) for name in ("log_prob", "advantage", "target", "weight")}
    return distribution, flat(value[:-1]), Samples(obs=(), action=action, **columns, memory=())


def environments_first(x: Array) -> Array:
    """[T, B, ...] -> [B, T, ...], and back."""
    return jnp.swapaxes(x, 0, 1)


def off_policy_actor_critic(config: Any) -> Objective:
    """IMPALA's V-trace actor-critic (Espeholt et al. 2018, section 4.2).

    Check: on data of the learner's own policy it equals `actor_critic` at the same settings, lambda included.
    """

    def loss(model: Model, params: Array, batch: Trajectory):
        distribution, value = model.unroll(params, batch.obs, batch.valid, batch.memory)
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid))
        log_ratio = jax.lax.stop_gradient(log_prob.reshape(batch.log_prob.shape)) - batch.log_prob
        estimate = estimate_off_policy(config, model, params, batch, log_ratio, value)
        weight = flat(batch.valid)
        advantage = flat(estimate.advantage)
        if config.normalise_advantage:
            advantage = pg.normalise(advantage, weight)
        policy = pg.policy_gradient_loss(log_prob, advantage, weight)
        extra = {"loss/behaviour_kl": pg.reduce(pg.kl_from_log_ratio(flat(log_ratio)), weight)}
        return _total(config, policy, flat(value[:-1]), flat(estimate.target), distribution, weight, extra)

    return Objective(lambda _, __, trajectory: trajectory, loss)


def _total(config, policy, value, target, distribution, weight, extra):
    """policy + value_cost * value + entropy_cost * entropy, with each part as a metric."""
    value_error = pg.value_loss(value, target, weight)
    entropy = pg.entropy_loss(jnp.broadcast_to(distribution.entropy(), weight.shape), weight)
    total = policy + config.value_cost * value_error + config.entropy_cost * entropy
    metrics = {"loss/policy": policy, "loss/value": value_error, "loss/entropy": -entropy, **extra}
    return total, {**metrics, "loss/explained_variance": pg.explained_variance(value, target, weight)}
