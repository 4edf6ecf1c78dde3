# SPDX-License-Identifier: Apache-2.0
"""The inner loop: act, step, store. Start reading here."""

from typing import TYPE_CHECKING, Any

import numpy as np

from shoal import seeds
from shoal.agents.base import Acting
from shoal.agents.host_policy import reset_memory
from shoal.engines import note, phase
from shoal.envs.base import VectorEnv
from shoal.errors import EnvironmentFault
from shoal.trees import read_at, tree_items, tree_map, write_at
from shoal.types import Array, Box, EnvSpec, PyTree, Trajectory

if TYPE_CHECKING:
    from shoal.actors.jitted import JittedRollout


def start(index: int, config: Any, parts: Any, epoch: int = 0) -> "Rollout | JittedRollout":
    """The rollout of actor `index`: its share of the environments, reset. Environments written in JAX are stepped
    together with the agent in one compiled call, where the agent can be compiled.

    An actor that was started anew (`epoch` above 0) does not relive what it did before: its seed is another one.
    """
    first = index * config.envs_per_actor
    seed = seeds.derive(parts.seed, "epoch", epoch) if epoch else parts.seed
    env = parts.make_env(config.envs_per_actor, first)
    try:
        return_discount = config.discount if config.normalise_reward else None
        made = _compiled if hasattr(env, "traced") and hasattr(parts.agent, "policy") else Rollout
        return made(env, parts.agent, seed=seed, first_index=first, return_discount=return_discount)
    except BaseException:
        env.close()
        raise


def _compiled(env: VectorEnv, agent: Any, **settings: Any) -> "JittedRollout":
    from shoal.actors.jitted import JittedRollout

    return JittedRollout(env, agent, **settings)


class Rollout:
    """Environments of one actor, carried from unroll to unroll.

    Noise is a pure function of seed, environment index and step, so that neither the number of actors nor the engine
    changes what an environment's policy draws. Recurrent memory starts anew after each row that only reset.

    Args:
      return_discount: also keep the discounted sum of rewards in every row, by which the learner scales rewards.

    Check: two actors with half of the environments each give the halves of one actor's trajectories.
    """

    def __init__(
        self, env: VectorEnv, agent: Acting, *, seed: int, first_index: int, return_discount: float | None = None
    ):
        self.env, self.agent, self.seed = env, agent, seed
        self.to_env = env.spec.action.to_env
        self.losses = getattr(env, "take_reports", list)  # nothing to tell where environments cannot be lost
        self.indices = first_index + np.arange(env.num_envs)
        self.env_step = 0
        self.initial_memory = self.memory = agent.memory(env.num_envs)
        self.episodes = EpisodeCounter(env.num_envs)
        self.returns = None if return_discount is None else DiscountedReturns(env.num_envs, return_discount)
        env.reset(seed)
        self.obs = tree_map(np.array, env.recv().obs)

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
        self.obs = tree_map(np.copy, obs)  # the rows are about to become the receiver's
        trajectory = phase("assemble", self._assemble, rows, bound, memory, version)
        note(env_steps_generated=int(np.count_nonzero(trajectory.valid)))
        for line in self.losses():
            note(env_worker_restarted=line)
        return trajectory

    def close(self) -> None:
        """Free what the environments hold."""
        self.env.close()

    def _prepare(self, params: Array, length: int) -> tuple[object, "Rows"]:
        draw = seeds.gumbels if self.agent.noise == "gumbel" else seeds.normals
        noise = draw(self.seed, "act", self.indices, self.env_step, length, self.agent.noise_size)
        rows = Rows(self.env.spec, length, self.env.num_envs, noise)
        write_at(rows.obs, 0, self.obs)
        self.env_step += length
        return self.agent.bind(params), rows

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
        """Everything that can be computed for the whole unroll at once rather than per step."""
        refuse_non_finite(rows.obs, rows.reward, self.env.spec.id, self.indices, (self.seed, self.env_step))
        ended = rows.terminated | rows.truncated
        episode_return, episode_length = self.episodes.count(rows.reward, ended, rows.valid)
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


class Rows:
    """The unroll under construction, time first: rows are written in place."""

    def __init__(self, spec: EnvSpec, length: int, num_envs: int, noise: Array):
        shape = (length, num_envs)
        is_box = isinstance(spec.action, Box)
        self.noise = noise
        self.obs = tree_map(lambda leaf: np.empty((length + 1, num_envs, *leaf.shape), leaf.dtype), spec.obs)
        self.action = np.empty((*shape, *spec.action.shape), np.float32 if is_box else np.int32)
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

    def __init__(self, num_envs: int, discount: float):
        self.discount = np.float32(discount)
        self.open_return = np.zeros(num_envs, np.float32)

    def count(self, reward: Array, ended: Array) -> Array:
        """(reward, ended), each [T, B] -> sums [T, B]; the row after an end begins at 0."""
        sums = np.empty_like(reward)
        running = self.open_return
        for t in range(len(reward)):
            running = sums[t] = reward[t] + self.discount * running
            running = np.where(ended[t], np.float32(0), running)
        self.open_return = running
        return sums
