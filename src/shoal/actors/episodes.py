# SPDX-License-Identifier: Apache-2.0
"""Whole episodes: every environment plays one under the same params, from its beginning to its end.

In: params. Out: a trajectory that holds one episode of each environment, and nothing of any other. Which episodes are
in it doesn't depend on how long they are, so their gradient is not biased towards short ones; nor does any of them mix
two versions. Who is through early waits: its rows do not count.
"""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.actors.rollout import Assembler, Rollout, Rows, column_forms
from shoal.engines import note, phase
from shoal.trees import tree_map, write_at
from shoal.types import Array, EnvSpec, Trajectory


def start_episodes(index: int, config: Any, parts: Any, epoch: int = 0) -> "EpisodeRollout":
    """The episodes of actor `index`. One that was started anew (`epoch` above 0) has a seed of its own."""
    first = index * config.envs_per_actor
    seed = seeds.derive(parts.seed, "epoch", epoch) if epoch else parts.seed
    env = parts.make_env(config.envs_per_actor, first)
    try:
        return EpisodeRollout(env, parts.agent, seed=seed, first_index=first)
    except BaseException:
        env.close()
        raise


class EpisodeRollout(Rollout):
    """Environments of one actor, reset at the beginning of every batch. Their randomness and the policy's are functions
    of the actor's seed and the number of batches before.

    Check: two actors with half of the environments each give the halves of one actor's episodes.
    """

    batches = batch_seed = 0

    def episodes(self, params: Array, version: int, length: int, limit: int) -> Trajectory:
        """An episode of every environment under params published as `version`: arrays [T, B, ...].

        T is `length` doubled as often as the longest episode needs, so that few forms of arrays occur; rows after an
        environment's end are not valid. Episodes of more than `limit` steps are cut: truncated there.
        """
        bound, rows = phase("prepare", self._open, params, length)
        memory, running, t = self.memory, np.ones(self.env.num_envs, bool), 0
        obs = self.obs
        while running.any() and t < limit:
            if t == len(rows.reward):
                rows = phase("prepare", self._doubled, rows)
            action, rows.head[t], self.memory = phase("act", self.agent.act, bound, obs, self.memory, rows.noise[t])
            rows.action[t] = action
            obs = phase("env_step", self._step, rows, t, action)
            running = leave_out(rows, t, running)
            t += 1
        rows.truncated[t - 1] |= running
        trajectory = phase("assemble", self._assemble_episodes, rows, bound, memory, version)
        note(env_steps_generated=t * self.env.num_envs)
        for line in self.losses():
            note(env_worker_restarted=line)
        return trajectory

    def _open(self, params: Array, length: int) -> tuple[object, Rows]:
        self.batch_seed = seeds.derive(self.seed, "episodes", self.batches)
        self.batches += 1
        self.env.reset(self.batch_seed)
        self.obs, self.memory = tree_map(np.array, self.env.recv().obs), self.initial_memory
        rows = empty_rows(self.env.spec, length, self._noise(0, length), self.agent.head_size)
        write_at(rows.obs, 0, self.obs)
        return self.agent.bind(params), rows

    def _doubled(self, rows: Rows) -> Rows:
        """The same rows, and as many behind them."""
        length = len(rows.reward)
        noise = np.concatenate([rows.noise, self._noise(length, length)])
        more = empty_rows(self.env.spec, 2 * length, noise, self.agent.head_size)
        write_at(more.obs, slice(0, length + 1), rows.obs)
        for name in ("action", "reward", "terminated", "truncated", "valid", "head"):
            getattr(more, name)[:length] = getattr(rows, name)
        return more

    def _noise(self, first: int, length: int) -> Array:
        draw = seeds.gumbels if self.agent.noise == "gumbel" else seeds.normals
        return draw(self.batch_seed, "act", self.indices, first, length, self.agent.noise_size)

    def _assemble_episodes(self, rows: Rows, bound: object, memory: object, version: int) -> Trajectory:
        log_prob = self.agent.log_prob(bound, rows.head, rows.action)
        assembler = Assembler(self.env.spec.id, self.indices, self.batch_seed, None)
        return assembler.trajectory(rows, log_prob, memory, version, len(rows.reward))


def empty_rows(spec: EnvSpec, length: int, noise: Array, head_size: int) -> Rows:
    """Rows of which none counts yet."""
    forms = column_forms(spec, length, noise.shape[1])
    rows = Rows(tree_map(lambda form: np.zeros(form.shape, form.dtype), forms), noise, head_size)
    rows.head[:] = 0
    return rows


def leave_out(rows: Rows, t: int, running: Array) -> Array:
    """Let row t count for environments whose episode is `running` [B] only; returns whose goes on."""
    rows.reward[t] = np.where(running, rows.reward[t], 0)
    for flag in (rows.terminated, rows.truncated, rows.valid):
        flag[t] &= running
    return running & ~(rows.terminated[t] | rows.truncated[t])
