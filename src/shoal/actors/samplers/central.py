# SPDX-License-Identifier: Apache-2.0
"""Central inference by size or deadline: workers only step environments, the actor serves those that have answered."""

from typing import Any

import numpy as np

from shoal.actors.rollout import Rollout, Rows
from shoal.agents.host_policy import reset_memory
from shoal.engines import phase
from shoal.trees import read_at, tree_map, write_at
from shoal.types import Array, PyTree


class CentralRollout(Rollout):
    """A rollout over a pool that infers as soon as `batch` environments have answered, or the deadline is over.

    Slow environments hold back nobody but themselves, until the unroll ends: each takes exactly T steps. Which of them
    are served together changes nothing but the rounding of a matrix product.

    Args:
      batch: rows that are inferred together at least; 0: all.
      deadline_s: seconds that the first of them waits for the others; None: as long as it takes.

    Check: whatever is ready when, actions are those of `Rollout`.
    """

    def __init__(self, env: Any, agent: Any, *, batch: int, deadline_s: float | None, **settings: Any):
        super().__init__(env, agent, **settings)
        self.batch, self.deadline_s = batch or env.num_envs, deadline_s

    def _collect(self, bound: object, rows: Rows) -> PyTree:
        length, num_envs = rows.reward.shape
        self.memory = tree_map(np.array, self.memory)  # written to in place: the trajectory keeps the one before
        taken = np.zeros(num_envs, np.int64)
        ready, flying = np.arange(num_envs), 0
        while len(ready) or flying:
            if len(ready):
                action = phase("act", self._serve, bound, rows, ready, taken[ready])
                flying += len(ready)
                self.env.send(action, None if len(ready) == num_envs else ready)
            answered = phase("env_step", self._receive, rows, taken, min(self.batch, flying))
            flying -= len(answered)
            ready = answered[taken[answered] < length]
        return read_at(rows.obs, -1)

    def _serve(self, bound: object, rows: Rows, slots: Array, t: Array) -> Array:
        """Infer for environments that are before their steps `t`; returns the actions to send."""
        chosen, at = self._padded(slots), self._padded(t)
        obs, memory = read_at(rows.obs, (at, chosen)), read_at(self.memory, chosen)
        action, head, memory = self.agent.act(bound, obs, memory, rows.noise[at, chosen])
        count = len(slots)
        rows.head[t, slots], rows.action[t, slots] = head[:count], action[:count]
        write_at(self.memory, slots, read_at(memory, slice(count)))
        return self.to_env(action[:count])

    def _padded(self, chosen: Array) -> Array:
        """As many as a compiled policy was compiled for, the first standing in for who is not there."""
        if not self.agent.compiled:
            return chosen
        size = self.batch if len(chosen) <= self.batch else self.env.num_envs
        return np.concatenate([chosen, np.full(size - len(chosen), chosen[0])])

    def _receive(self, rows: Rows, taken: Array, wanted: int) -> Array:
        """Store the rows of who has answered; returns their slots."""
        env: Any = self.env
        steps = env.recv(wanted, deadline_s=self.deadline_s)
        slots, t = steps.slots, taken[steps.slots]
        write_at(rows.obs, (t + 1, slots), steps.obs)
        rows.reward[t, slots] = steps.reward
        rows.terminated[t, slots] = steps.terminated
        rows.truncated[t, slots] = steps.truncated
        rows.valid[t, slots] = steps.valid
        if self.agent.recurrent and not steps.valid.all():
            memory, initial = read_at(self.memory, slots), read_at(self.initial_memory, slots)
            write_at(self.memory, slots, reset_memory(memory, steps.valid, initial))
        taken[slots] += 1
        return slots
