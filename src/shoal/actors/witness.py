# SPDX-License-Identifier: Apache-2.0
"""What an actor knows beyond its trajectories: values and memories of every step, kept instead of computed again."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from shoal.agents.base import Acting, Judged
from shoal.errors import ConfigError
from shoal.trees import read_at
from shoal.types import Array, PyTree, Trajectory


class Witness:
    """Watches an agent act. `agent` takes its place, and does what it does, step by step.

    Raises: ConfigError for agents that do not value actions.

    Check: values are those that actions were chosen by, memories those that they were chosen with.
    """

    def __init__(self, agent: Acting):
        if agent.judge is None:
            raise ConfigError(
                "priorities come from values of actions, and this agent's policy knows none; use a2c, ppo"
            )
        self._agent, self._judge = agent, agent.judge
        plain = Acting(**{field.name: getattr(agent, field.name) for field in fields(Acting)})
        self.agent = replace(plain, bind=self._bind, act=self._act)
        self._bound: Any = None
        self._heads: list[Array] = []
        self._memories: list[PyTree] = []

    def take(self, trajectory: Trajectory) -> tuple[Judged, list[PyTree]]:
        """(values [T, B], memory [B, ...] before each of T steps) of the unroll that just ended."""
        heads, memories = np.stack(self._heads), self._memories
        self._heads, self._memories = [], []
        seen = read_at(trajectory.obs, slice(None, -1))
        return self._judge(self._bound, seen, trajectory.action, heads), memories

    def _bind(self, params: Array) -> Any:
        self._bound = self._agent.bind(params)
        return self._bound

    def _act(self, bound: Any, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        action, head, after = self._agent.act(bound, obs, memory, noise)
        self._heads.append(np.asarray(head))
        self._memories.append(memory)
        return action, head, after
