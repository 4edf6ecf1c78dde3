# SPDX-License-Identifier: Apache-2.0
"""The inner loop: act, step, store. Start reading here."""

from typing import Any, NamedTuple

import numpy as np

from shoal import seeds
from shoal.actors.opening import Opening, open_episodes
from shoal.agents.base import Acting
from shoal.agents.host_policy import reset_memory
from shoal.engines import note, phase
from shoal.envs.base import VectorEnv
from shoal.errors import EnvironmentFault
from shoal.trees import read_at, tree_items, tree_map, write_at
from shoal.types import Array, ArraySpec, Box, EnvSpec, PyTree, Trajectory


class Rollout:
    """Environments of one actor, carried from unroll to unroll.

    Noise is a pure function of seed, environment index and step, so that neither the number of actors nor the engine
    changes what an environment's policy draws. Recurrent memory starts anew after each row that only reset.

    Args:
      return_discount: also keep the discounted sum of rewards in every row, by which the learner scales rewards.
      decorrelate: random steps before the first unroll, see `open_episodes`.

    Check: two actors with half of the environments each give the halves of one actor's trajectories.
    """

    def __init__(
        self,
        env: VectorEnv,
        agent: Acting,
        *,
        seed: int,
        first_index: int,
        return_discount: float | None = None,
        decorrelate: int = 0,
    ):
        self.env, self.agent, self.seed = env, agent, seed
        self.to_env = env.spec.action.to_env
        self.losses = getattr(env, "take_reports", list)  # nothing to tell where environments cannot be lost
        self.begin_batch: Any = getattr(env, "begin_batch", None)
        self.indices = first_index + np.arange(env.num_envs)
        self.env_step = 0
        self.initial_memory = self.memory = agent.memory(env.num_envs)
        opening = open_episodes(env, seed, self.indices, decorrelate=decorrelate, discount=return_discount or 0.0)
        self.obs = opening.obs
        self.assembler = Assembler(env.spec.id, self.indices, seed, return_discount, opening)

    def unroll(self, params: Array, version: int, length: int, into: "Columns | None" = None) -> Trajectory:
        """`length` steps of every environment under params published as `version`: arrays [T, B, ...].

        The arrays are new each time, unless others are given to write `into`: once handed on they are the receiver's.
        Raises EnvironmentFault where an observation or reward is not a finite number.
        """
        bound, rows = phase("prepare", self._prepare, params, length, into)
        memory = self.memory
        obs = self._collect(bound, rows)
        self.obs = tree_map(np.copy, obs)  # the rows are about to become the receiver's
        trajectory = phase("assemble", self._assemble, rows, bound, memory, version)
        note(env_steps_generated=int(np.count_nonzero(trajectory.valid)))
        for line in self.losses():
            note(env_worker_restarted=line)
        return trajectory

    def close(self) -> None:
        """Free what the environments hold."""
        self.env.close()

    def _prepare(self, params: Array, length: int, into: "Columns | None") -> tuple[object, "Rows"]:
        if self.begin_batch is not None:
            self.begin_batch()
        draw = seeds.gumbels if self.agent.noise == "gumbel" else seeds.normals
        noise = draw(self.seed, "act", self.indices, self.env_step, length, self.agent.noise_size)
        rows = Rows(into or new_columns(self.env.spec, length, self.env.num_envs), noise, self.agent.head_size)
        write_at(rows.obs, 0, self.obs)
        self.env_step += length
        return self.agent.bind(params), rows

    def _collect(self, bound: object, rows: "Rows") -> PyTree:
        """Fill the rows; returns the observations after the last one."""
        obs = self.obs
        for t in range(len(rows.reward)):
            action, rows.head[t], self.memory = phase("act", self.agent.act, bound, obs, self.memory, rows.noise[t])
            rows.action[t] = action
            obs = phase("env_step", self._step, rows, t, action)
        return obs

    def _step(self, rows: "Rows", t: int, action: Array) -> PyTree:
        """Send one action per environment, store what comes back, return the next observations."""
        self.env.send(self.to_env(action))
        steps = self.env.recv()
        write_at(rows.obs, t + 1, steps.obs)
        rows.reward[t] = steps.reward
        rows.terminated[t] = steps.terminated
        rows.truncated[t] = steps.truncated
        rows.valid[t] = steps.valid
        if self.agent.recurrent and not steps.valid.all():
            self.memory = reset_memory(self.memory, steps.valid, self.initial_memory)
        return read_at(rows.obs, t + 1)

    def _assemble(self, rows: "Rows", bound: object, memory: object, version: int) -> Trajectory:
        log_prob = self.agent.log_prob(bound, rows.head, rows.action)
        return self.assembler.trajectory(rows, log_prob, memory, version, self.env_step)


class Assembler:
    """Rows to trajectories, for some environments: all that is computed for a whole unroll at once rather than per
    step. Episodes and discounted returns are counted on from unroll to unroll.

    Args:
      env_id, indices, seed: of the environments, for the fault that names one of them.
      return_discount: also keep the discounted sum of rewards in every row.
      opening: what the episodes came to before the first row.
    """

    def __init__(
        self, env_id: str, indices: Array, seed: int, return_discount: float | None, opening: Opening | None = None
    ):
        self.env_id, self.indices, self.seed = env_id, indices, seed
        self.episodes = EpisodeCounter(len(indices), opening)
        self.returns = None if return_discount is None else DiscountedReturns(len(indices), return_discount, opening)

    def trajectory(self, rows: "Rows", log_prob: Array, memory: PyTree, version: int, env_step: int) -> Trajectory:
        """The trajectory of rows that are complete.

        Args:
          log_prob: [T, B] of the actions.
          memory: [B, ...] before row 0.
          version: of the params that acted, the oldest if there were several.
          env_step: steps that the environments took up to the end of these rows.

        Raises EnvironmentFault where an observation or reward is not a finite number.
        """
        refuse_non_finite(rows.obs, rows.reward, self.env_id, self.indices, (self.seed, env_step))
        ended = rows.terminated | rows.truncated
        episode_return, episode_length = self.episodes.count(rows.reward, ended, rows.valid)
        return Trajectory(
            obs=rows.obs,
            action=rows.action,
            reward=rows.reward,
            terminated=rows.terminated,
            truncated=rows.truncated,
            valid=rows.valid,
            log_prob=log_prob,
            memory=memory,
            version=np.full(len(self.indices), version, np.int64),
            episode_return=episode_return,
            episode_length=episode_length,
            discounted_return=() if self.returns is None else self.returns.count(rows.reward, ended),
        )


def refuse_non_finite(obs: PyTree, reward: Array, env_id: str, indices: Array, seed_and_step: tuple[int, int]) -> None:
    """Raises EnvironmentFault naming the first number of an unroll that is not finite.

    Args:
      obs, reward: [T+1, B, ...] and [T, B].
      indices: [B], counted over all actors.
      seed_and_step: the actor's seed, and the steps that its environments took up to the end of the unroll.
    """
    seed, taken = seed_and_step
    entries = [(f"obs (entry {path!r})" if path else "obs", values) for path, values in tree_items(obs)]
    for name, values in (*entries, ("reward", reward)):
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        t, b = np.argwhere(~np.isfinite(values))[0][:2]
        # calls of `step` so far, the faulty one included, as adapters count; row 0 of obs came before any
        step = taken - len(reward) + int(t) + (name == "reward")
        raise EnvironmentFault(
            f"environment {env_id} #{indices[b]} (seed {seed}) returned a {name} that is not a finite number at step "
            f"{step}; repair the environment or clip what it returns"
        )


class Columns(NamedTuple):
    """What steps write of an unroll, time first; fields as in `Trajectory`."""

    obs: PyTree
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    valid: Array


def column_forms(spec: EnvSpec, length: int, num_envs: int) -> Columns:
    """Shape and dtype of every array, as ArraySpecs."""

    def rows(dtype: str, *shape: int, more: int = 0) -> ArraySpec:
        return ArraySpec((length + more, num_envs, *shape), dtype)

    return Columns(
        obs=tree_map(lambda leaf: rows(leaf.dtype, *leaf.shape, more=1), spec.obs),
        action=rows("float32" if isinstance(spec.action, Box) else "int32", *spec.action.shape),
        reward=rows("float32"),
        terminated=rows("bool"),
        truncated=rows("bool"),
        valid=rows("bool"),
    )


def new_columns(spec: EnvSpec, length: int, num_envs: int) -> Columns:
    """New arrays, to be written in full."""
    return tree_map(lambda form: np.empty(form.shape, form.dtype), column_forms(spec, length, num_envs))


class Rows:
    """The unroll under construction: its columns, the noise it is made with, and the policy's heads."""

    def __init__(self, columns: Columns, noise: Array, head_size: int):
        self.obs, self.action, self.reward, self.terminated, self.truncated, self.valid = columns
        self.noise = noise
        self.head = np.empty((*self.reward.shape, head_size), np.float32)


class EpisodeCounter:
    """Raw return and length of each finished episode, counted once per unroll over unrolls of any length.

    Check: counting an unroll in two parts gives the same episodes as counting it whole.
    """

    def __init__(self, num_envs: int, opening: Opening | None = None):
        self.open_return = np.zeros(num_envs) if opening is None else opening.episode_return
        self.open_length = np.zeros(num_envs, np.int64) if opening is None else opening.episode_length

    def count(self, reward: Array, ended: Array, valid: Array) -> tuple[Array, Array]:
        """(reward, ended, valid), each [T, B] -> (episode_return, episode_length), each [T, B].

        Rows in which no episode ended hold NaN and 0; so do those in which one was lost, ended but not valid.
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
            lost = ended & ~valid
            episode_return[lost], episode_length[lost] = np.nan, 0
        return episode_return, episode_length


class DiscountedReturns:
    """Discounted sum of the rewards of the running episode, R_t = r_t + discount * R_(t-1), once per unroll.

    Check: counting an unroll in two parts gives the same sums as counting it whole.
    """

    def __init__(self, num_envs: int, discount: float, opening: Opening | None = None):
        self.discount = np.float32(discount)
        self.open_return = np.zeros(num_envs, np.float32) if opening is None else opening.discounted_return

    def count(self, reward: Array, ended: Array) -> Array:
        """(reward, ended), each [T, B] -> sums [T, B]; the row after an end begins at 0."""
        sums = np.empty_like(reward)
        running = self.open_return
        for t in range(len(reward)):
            running = sums[t] = reward[t] + self.discount * running
            running = np.where(ended[t], np.float32(0), running)
        self.open_return = running
        return sums
