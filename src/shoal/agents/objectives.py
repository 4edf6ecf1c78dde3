# SPDX-License-Identifier: Apache-2.0
"""What an actor-critic minimises: plain advantages (A2C), the clipped surrogate (PPO), V-trace (IMPALA).

An objective has two functions over `policy_and_value(params, obs [N, ...]) -> (distribution, value [N])`:
`prepare` turns a trajectory into what `loss` trains on, once per batch; `loss` may then run on shuffled parts of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.losses import policy_gradient as pg
from shoal.losses.returns import Advantage, gae, vtrace
from shoal.types import Array, Trajectory

PolicyAndValue = Callable[[Array, Array], tuple[Any, Array]]


class Objective(NamedTuple):
    """The two functions; see the module."""

    prepare: Callable[[PolicyAndValue, Array, Trajectory], Any]
    loss: Callable[[PolicyAndValue, Array, Any], tuple[Array, dict[str, Array]]]


class Samples(NamedTuple):
    """A batch as N = T * B rows in no order: what PPO shuffles."""

    obs: Array
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


def learning_reward(reward: Array, scale: float, clip: float | None) -> Array:
    """Rewards [T, B] as learning sees them: scaled, then clipped to [-clip, clip]. Trajectories keep the raw ones."""
    reward = reward * scale
    return reward if clip is None else jnp.clip(reward, -clip, clip)


def all_rows(policy_and_value: PolicyAndValue, params: Array, obs: Array) -> tuple[Any, Array]:
    """Distribution over rows [T * B, ...] and values [T+1, B] of observations [T+1, B, ...], in one forward pass."""
    steps, envs = obs.shape[:2]
    distribution, value = policy_and_value(params, obs.reshape(steps * envs, *obs.shape[2:]))
    rows = (steps - 1) * envs
    first = type(distribution)(distribution[0][:rows], *distribution[1:])
    return first, value.reshape(steps, envs)


def flat(x: Array) -> Array:
    """[T, B, ...] -> [T * B, ...]."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def counted_actions(action: Array, valid: Array) -> Array:
    """Actions [T, B, ...] as [T * B], or [T * B, D] for Box actions, 0 where not valid.

    Reset rows are cleared before any arithmetic: a log-probability that is not finite would spoil the gradient of the
    whole batch even at weight 0.
    """
    rows = flat(action)
    if jnp.issubdtype(rows.dtype, jnp.integer):
        return jnp.where(flat(valid), rows, 0)
    return jnp.where(flat(valid)[:, None], rows.reshape(len(rows), -1), 0.0)


def estimate_advantage(config: Any, batch: Trajectory, value: Array) -> Advantage:
    """GAE of a trajectory [T, B] under values [T+1, B], with the config's discounts and learning rewards."""
    reward = learning_reward(batch.reward, config.reward_scale, config.reward_clip)
    flags = (batch.terminated, batch.truncated, batch.valid)
    return gae(reward, value, *flags, discount=config.discount, trace_decay=config.trace_decay)


def actor_critic(config: Any) -> Objective:
    """Advantage actor-critic on GAE (Mnih et al. 2016, section 4; Schulman et al. 2016, equation 16).

    Check: with trace_decay 1 the value target is the n-step return to the end of the unroll.
    """

    def loss(policy_and_value: PolicyAndValue, params: Array, batch: Trajectory):
        distribution, value = all_rows(policy_and_value, params, batch.obs)
        estimate = estimate_advantage(config, batch, value)
        weight = flat(batch.valid)
        advantage = flat(estimate.advantage)
        if config.normalise_advantage:
            advantage = pg.normalise(advantage, weight)
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid))
        policy = pg.policy_gradient_loss(log_prob, advantage, weight)
        return _total(config, policy, flat(value[:-1]), flat(estimate.target), distribution, weight, {})

    return Objective(lambda _, __, trajectory: trajectory, loss)


def surrogate(config: Any) -> Objective:
    """PPO's clipped surrogate (Schulman et al. 2017, equations 7 and 9) on advantages fixed when the batch arrived.

    Check: on the first pass its gradient is the policy gradient's.
    """

    def prepare(policy_and_value: PolicyAndValue, params: Array, batch: Trajectory) -> Samples:
        _, value = all_rows(policy_and_value, params, batch.obs)
        estimate = estimate_advantage(config, batch, value)
        action = counted_actions(batch.action, batch.valid)
        rows = (batch.log_prob, estimate.advantage, estimate.target, batch.valid)
        return Samples(flat(batch.obs[:-1]), action, *(flat(x) for x in rows))

    def loss(policy_and_value: PolicyAndValue, params: Array, batch: Samples):
        distribution, value = policy_and_value(params, batch.obs)
        advantage = batch.advantage
        if config.normalise_advantage:
            advantage = pg.normalise(advantage, batch.weight)
        policy = pg.clipped_surrogate(
            distribution.log_prob(batch.action), batch.log_prob, advantage, batch.weight, clip=config.clip
        )
        extra = {"loss/approx_kl": policy.approx_kl, "loss/clip_frac": policy.clip_frac}
        return _total(config, policy.loss, value, batch.target, distribution, batch.weight, extra)

    return Objective(prepare, loss)


def off_policy_actor_critic(config: Any) -> Objective:
    """IMPALA's V-trace actor-critic (Espeholt et al. 2018, section 4.2).

    `config.correction` "none" fixes every ratio at 1: the ablation that shows what V-trace is for.

    Check: on data of the learner's own policy it equals `actor_critic` at the same settings, lambda included.
    """

    def loss(policy_and_value: PolicyAndValue, params: Array, batch: Trajectory):
        distribution, value = all_rows(policy_and_value, params, batch.obs)
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid))
        log_ratio = jax.lax.stop_gradient(log_prob.reshape(batch.log_prob.shape)) - batch.log_prob
        used = log_ratio if config.correction == "vtrace" else jnp.zeros_like(log_ratio)
        reward = learning_reward(batch.reward, config.reward_scale, config.reward_clip)
        estimate = vtrace(
            reward, value, batch.terminated, batch.truncated, batch.valid, used,
            discount=config.discount, trace_decay=config.trace_decay, max_ratio=config.max_ratio,
            max_trace=config.max_trace, max_pg_ratio=config.max_ratio,
        )  # fmt: skip
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
