# SPDX-License-Identifier: Apache-2.0
"""The inner loop: act, step, store. Start reading here."""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.agents.base import Agent
from shoal.engines import note, phase
from shoal.envs.base import VectorEnv
from shoal.errors import EnvironmentFault
from shoal.types import Array, Box, EnvSpec, Trajectory


def start(index: int, config: Any, parts: Any) -> "Rollout":
    """The rollout of actor `index`: its share of the environments, reset."""
    first = index * config.envs_per_actor
    env = parts.make_env(config.envs_per_actor, first)
    try:
        return Rollout(env, parts.agent, seed=parts.seed, first_index=first)
    except BaseException:
        env.close()
        raise


class Rollout:
    """Environments of one actor, carried from unroll to unroll.

    Noise is a pure function of seed, environment index and step, so that neither the number of actors nor the engine
    changes what an environment's policy draws.

    Check: two actors with half of the environments each give the halves of one actor's trajectories.
    """

    def __init__(self, env: VectorEnv, agent: Agent, *, seed: int, first_index: int):
        self.env, self.agent, self.seed = env, agent, seed
        self.to_env = env.spec.action.to_env
        self.indices = first_index + np.arange(env.num_envs)
        self.env_step = 0
        self.memory = agent.memory(env.num_envs)
        self.episodes = EpisodeCounter(env.num_envs)
        env.reset(seed)
        self.obs = np.array(env.recv().obs)

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """`length` steps of every environment under params published as `version`: arrays [T, B, ...].

        The arrays are new each time: once handed on they are the receiver's. Raises EnvironmentFault where an
        observation or reward is not a finite number.
        """
        bound, rows = phase("prepare", self._prepare, params, length)
        memory, obs = self.memory, self.obs
        for t in range(length):
            action, rows.head[t], self.memory = phase("act", self.agent.act, bound, obs, self.memory, rows.noise[t])
            rows.action[t] = action
            obs = phase("env_step", self._step, rows, t, action)
        self.obs = obs.copy()  # the rows are about to become the receiver's
        trajectory = phase("assemble", self._assemble, rows, bound, memory, version)
        note(env_steps_generated=int(np.count_nonzero(trajectory.valid)))
        return trajectory

    def close(self) -> None:
        """Free what the environments hold."""
        self.env.close()

    def _prepare(self, params: Array, length: int) -> tuple[object, "Rows"]:
        draw = seeds.gumbels if self.agent.noise == "gumbel" else seeds.normals
        noise = draw(self.seed, "act", self.indices, self.env_step, length, self.agent.noise_size)
        rows = Rows(self.env.spec, length, self.env.num_envs, noise)
        rows.obs[0] = self.obs
        self.env_step += length
        return self.agent.bind(params), rows

    def _step(self, rows: "Rows", t: int, action: Array) -> Array:
        """Send one action per environment, store what comes back, return the next observations."""
        self.env.send(self.to_env(action))
        steps = self.env.recv()
        rows.obs[t + 1] = steps.obs
        rows.reward[t] = steps.reward
        rows.terminated[t] = steps.terminated
        rows.truncated[t] = steps.truncated
        rows.valid[t] = steps.valid
        return rows.obs[t + 1]

    def _assemble(self, rows: "Rows", bound: object, memory: object, version: int) -> Trajectory:
        """Everything that can be computed for the whole unroll at once rather than per step."""
        self._refuse_non_finite(rows)
        episode_return, episode_length = self.episodes.count(rows.reward, rows.terminated | rows.truncated, rows.valid)
        return Trajectory(
            obs=rows.obs,
            action=rows.action,
            reward=rows.reward,
            terminated=rows.terminated,
            truncated=rows.truncated,
            valid=rows.valid,
            log_prob=self.agent.log_prob(bound, rows.head, rows.action),
            memory=memory,
            version=np.full(self.env.num_envs, version, np.int64),
            episode_return=episode_return,
            episode_length=episode_length,
        )

    def _refuse_non_finite(self, rows: "Rows") -> None:
        for name, values in (("obs", rows.obs), ("reward", rows.reward)):
            if values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            t, b = np.argwhere(~np.isfinite(values))[0][:2]
            # calls of `step` so far, the faulty one included, as adapters count; row 0 of obs came before any
            step = self.env_step - len(rows.reward) + int(t) + (name == "reward")
            raise EnvironmentFault(
                f"environment {self.env.spec.id} #{self.indices[b]} (seed {self.seed}) returned a {name} that is not a "
                f"finite number at step {step}; repair the environment or clip what it returns"
            )


class Rows:
    """The unroll under construction, time first: rows are written in place."""

    def __init__(self, spec: EnvSpec, length: int, num_envs: int, noise: Array):
        shape = (length, num_envs)
        is_box = isinstance(spec.action, Box)
        self.noise = noise
        self.obs = np.empty((length + 1, num_envs, *spec.obs.shape), spec.obs.dtype)
        self.action = np.empty((*shape, *spec.action.shape), np.float32) if is_box else np.empty(shape, np.int32)
        self.head = np.empty((*shape, noise.shape[-1]), np.float32)
        self.reward = np.empty(shape, np.float32)
        self.terminated = np.empty(shape, bool)
        self.truncated = np.empty(shape, bool)
        self.valid = np.empty(shape, bool)


class EpisodeCounter:
    """Raw return and length of each finished episode, counted once per unroll over unrolls of any length.

    Check: counting an unroll in two parts gives the same episodes as counting it whole.
    """

    def __init__(self, num_envs: int):
        self.open_return = np.zeros(num_envs)
        self.open_length = np.zeros(num_envs, np.int64)

    def count(self, reward: Array, ended: Array, valid: Array) -> tuple[Array, Array]:
        """(reward, ended, valid), each [T, B] -> (episode_return, episode_length), each [T, B].

        Rows in which no episode ended hold NaN and 0.
        """
        returns = np.cumsum(reward, axis=0, dtype=np.float64) + self.open_return
        lengths = np.cumsum(valid, axis=0, dtype=np.int64) + self.open_length
        episode_return = np.full(reward.shape, np.nan, np.float32)
        episode_length = np.zeros(reward.shape, np.int32)
        self.open_return, self.open_length = returns[-1].copy(), lengths[-1].copy()
        env, row = np.nonzero(ended.T)
        if len(env):
            first = np.r_[True, env[1:] != env[:-1]]
            for totals, out, still_open in (
                (returns, episode_return, self.open_return),
                (lengths, episode_length, self.open_length),
            ):
                at_end = totals[row, env]
                before = np.where(first, 0, np.r_[at_end[:1] * 0, at_end[:-1]])
                out[row, env] = at_end - before
                last = np.r_[first[1:], True]
                still_open[env[last]] -= at_end[last]
        return episode_return, episode_length
