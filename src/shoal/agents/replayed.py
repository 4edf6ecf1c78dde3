# SPDX-License-Identifier: Apache-2.0
"""Agents that learn from a replay memory, under every scheme: their loss takes rows in no order, and whoever has
trajectories instead makes such rows of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.actor_critic import Learning
from shoal.agents.base import Replayed
from shoal.agents.model import Model
from shoal.agents.objectives import flat, rewards_learnt
from shoal.trees import tree_leaves, tree_map
from shoal.types import Array, Batch, PyTree, Trajectory


def learning_by(replayed: Replayed, size: int, prepare: Callable[[Array, Trajectory], Any]) -> Learning:
    """How an agent learns from a memory, and under schemes that hand it trajectories: `prepare` makes of one what
    `replayed.loss` takes.

    Params may be followed by how to explore and by what targets are made with, [P | number | target]; without those,
    targets come from the params themselves.

    Check: on the rows of a trajectory both give the same loss.
    """

    def loss(params: Array, batch: Any) -> tuple[Array, dict[str, Array]]:
        held = params[size + 1 :] if params.shape[0] > size + 1 else params[:size]
        total, (_, metrics) = replayed.loss(params[:size], jax.lax.stop_gradient(held), batch, key_from(params))
        return total, metrics

    return Learning(prepare, loss, replayed)


def key_from(params: Array) -> Array:
    """A key for noise where nobody hands one out: another one after every step."""
    return jax.random.key(jax.lax.bitcast_convert_type(jnp.sum(jax.lax.stop_gradient(params)), jnp.uint32))


def batch_of(config: Any, model: Model, params: Array, trajectory: Trajectory) -> Batch:
    """Rows [T * B] of n-step transitions of a trajectory, of fewer steps near its end. Rows that only reset weigh 0.

    Check: rows with n steps before the end are those that actors build for a replay memory.
    """
    reward = rewards_learnt(config, model, params, trajectory.reward)
    counts, gathered, taken = jnp.ones_like(trajectory.valid), jnp.zeros_like(reward), jnp.zeros(reward.shape, int)
    terminated = jnp.zeros_like(trajectory.valid)
    for k in range(min(config.n_step, len(reward))):
        valid, ends, cut, gain = (
            _later(x, k) for x in (trajectory.valid, trajectory.terminated, trajectory.truncated, reward)
        )
        counts = counts & valid
        gathered += jnp.where(counts, config.discount**k * gain, 0.0)
        taken += counts
        terminated |= counts & ends
        counts = counts & ~(ends | cut)
    reached = jnp.arange(len(reward))[:, None] + jnp.maximum(taken, 1), jnp.arange(reward.shape[1])
    rows = Batch(
        obs=tree_map(lambda leaf: leaf[:-1], trajectory.obs),
        action=_cleared(trajectory.action, trajectory.valid),
        reward=gathered,
        discount=jnp.where(terminated, 0.0, config.discount ** taken.astype(jnp.float32)),
        next_obs=tree_map(lambda leaf: leaf[reached], trajectory.obs),
        weight=trajectory.valid.astype(jnp.float32),
        key=jnp.zeros(reward.shape, int),
        version=jnp.broadcast_to(jnp.asarray(0), reward.shape),
    )
    return tree_map(flat, rows)


def _later(x: Array, steps: int) -> Array:
    """[T, B] as it is `steps` rows later; zeros where there are none."""
    return jnp.concatenate([x[steps:], jnp.zeros_like(x[:steps])])


def _cleared(action: Array, valid: Array) -> Array:
    """Actions [T, B, ...], 0 where none was taken."""
    return jnp.where(valid.reshape(*valid.shape, *(1,) * (action.ndim - 2)), action, 0)


def side_by_side(first: PyTree, second: PyTree) -> PyTree:
    """Rows [N, ...] of both, for one pass over all of them."""
    return tree_map(lambda *pair: jnp.concatenate(pair), first, second)


def rows_in(obs: PyTree) -> int:
    """N of observations [N, ...]."""
    return len(tree_leaves(obs)[0])
