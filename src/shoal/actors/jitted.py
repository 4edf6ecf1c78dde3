# SPDX-License-Identifier: Apache-2.0
"""The inner loop where environments are written in JAX: policy and environments in one compiled call per unroll."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shoal import seeds
from shoal.actors.rollout import DiscountedReturns, EpisodeCounter, refuse_non_finite
from shoal.agents.base import Agent
from shoal.engines import note, phase
from shoal.envs.jitted.traced import Lanes, TracedEnv, advance, chosen, opened
from shoal.trees import tree_leaves, tree_map
from shoal.types import ActionSpec, Array, Box, PyTree, Trajectory


class JittedRollout:
    """What `Rollout` does, for a `JittedVector`: same noise, same resets, same trajectories, one call per unroll.

    Arrays stay on the device for a learner in the same process. Noise and keys come from the host, as everywhere; those
    of the next unroll are drawn while the device computes this one.

    Check: equals `Rollout` on the same environments, with and without memory.
    """

    def __init__(self, env: Any, agent: Agent, *, seed: int, first_index: int, return_discount: float | None = None):
        self.env, self.agent, self.seed = env, agent, seed
        self.indices = first_index + np.arange(env.num_envs)
        self.env_step = 0
        self.memory = agent.memory(env.num_envs)
        self.episodes = EpisodeCounter(env.num_envs)
        self.returns = None if return_discount is None else DiscountedReturns(env.num_envs, return_discount)
        keys = jax.device_put(seeds.keys(seed, "env", self.indices, 0, 1)[0], agent.device)
        self.lanes = _opened(env.traced, keys)
        self._ahead: tuple[int, Draws] | None = None

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """`length` steps of every environment under params published as `version`: arrays [T, B, ...].

        Raises EnvironmentFault where an observation or reward is not a finite number.
        """
        draws = phase("prepare", self._draws, length)
        memory = self.memory
        rows = phase("rollout", self._run, params, draws)
        trajectory = phase("assemble", self._assemble, rows, memory, version)
        note(env_steps_generated=int(np.count_nonzero(trajectory.valid)))
        return trajectory

    def close(self) -> None:
        """Free what the environments hold."""
        self.env.close()

    def _draws(self, length: int) -> "Draws":
        """Noise and keys of the next `length` steps: those drawn ahead, where they are as many."""
        ahead, self._ahead = self._ahead, None
        return ahead[1] if ahead and ahead[0] == length else self._draw(length)

    def _draw(self, length: int) -> "Draws":
        """Environments took one step, their reset, before the policy's first."""
        noise = seeds.gumbels if self.agent.noise == "gumbel" else seeds.normals
        return Draws(
            noise(self.seed, "act", self.indices, self.env_step, length, self.agent.noise_size),
            seeds.keys(self.seed, "env", self.indices, self.env_step + 1, length),
        )

    def _run(self, params: Array, draws: "Draws") -> "Rows":
        bound = jax.device_put(params, self.agent.device)
        self.lanes, self.memory, rows = _unrolled(self.env.traced, self.agent, bound, self.lanes, self.memory, draws)
        length = len(draws.keys)
        self.env_step += length
        self._ahead = length, self._draw(length)
        return jax.block_until_ready(rows)

    def _assemble(self, rows: "Rows", memory: PyTree, version: int) -> Trajectory:
        """What is computed on the host, once for the whole unroll."""
        reward, terminated, truncated, valid = (
            np.asarray(x) for x in (rows.reward, rows.terminated, rows.truncated, rows.valid)
        )
        if not rows.finite:
            obs = tree_map(np.asarray, rows.obs)
            refuse_non_finite(obs, reward, self.env.spec.id, self.indices, (self.seed, self.env_step))
        ended = terminated | truncated
        episode_return, episode_length = self.episodes.count(reward, ended, valid)
        return Trajectory(
            obs=rows.obs,
            action=rows.action,
            reward=rows.reward,
            terminated=rows.terminated,
            truncated=rows.truncated,
            valid=rows.valid,
            log_prob=rows.log_prob,
            memory=memory,
            version=np.full(self.env.num_envs, version, np.int64),
            episode_return=episode_return,
            episode_length=episode_length,
            discounted_return=() if self.returns is None else self.returns.count(reward, ended),
        )


class Draws(NamedTuple):
    """All randomness of an unroll."""

    noise: Array
    """[T, B, noise_size] for actions"""
    keys: Array
    """[T, B, 2] for environments"""


class Rows(NamedTuple):
    """An unroll as the device gives it, [T, B, ...]; `obs` has one row more."""

    obs: PyTree
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    log_prob: Array
    finite: Array
    """[] bool: whether all observations and rewards are"""


@partial(jax.jit, static_argnums=0)
def _opened(env: TracedEnv, keys: Array) -> Lanes:
    return opened(env, keys)


@partial(jax.jit, static_argnums=(0, 1))
def _unrolled(
    env: TracedEnv, agent: Agent, params: Array, lanes: Lanes, memory: PyTree, draws: Draws
) -> tuple[Lanes, PyTree, Rows]:
    """An unroll from `lanes` and `memory` on. Only what the next step needs is computed step by step; log-probabilities
    come from all policies at once."""
    steps, num_envs = draws.keys.shape[:2]
    initial = agent.memory(num_envs)

    def one_step(carry: tuple[Lanes, PyTree], drawn: Draws) -> tuple[tuple[Lanes, PyTree], tuple]:
        lanes, memory = carry
        policy, after = agent.policy(params, lanes.obs, memory)
        action = policy.sample(drawn.noise)
        stepped, row = advance(env, lanes, drawn.keys, _to_env(env.spec.action, action))
        return (stepped, chosen(row.valid, after, initial)), (lanes.obs, policy, action, row)

    (lanes, memory), (obs, policies, action, row) = jax.lax.scan(one_step, (lanes, memory), draws)
    log_prob = jax.vmap(lambda policy, taken: policy.log_prob(taken))(policies, action)
    obs = tree_map(lambda rows, last: jnp.concatenate([rows, last[None]]), obs, lanes.obs)
    numbers = [x for x in (*tree_leaves(obs), row.reward) if jnp.issubdtype(x.dtype, jnp.inexact)]
    finite = jnp.stack([jnp.isfinite(x).all() for x in numbers]).all()
    action = action.reshape(steps, num_envs, *env.spec.action.shape)
    return lanes, memory, Rows(**row._asdict(), obs=obs, action=action, log_prob=log_prob, finite=finite)


def _to_env(spec: ActionSpec, action: Array) -> Array:
    """`to_env` of unit-scale actions [N, D], or of whole numbers as they are; traced."""
    if not isinstance(spec, Box):
        return action
    low, high, middle, half = spec.bounds
    return jnp.clip(middle + half * action.reshape(-1, *spec.shape), low, high)
