# SPDX-License-Identifier: Apache-2.0
"""An environment whose step costs what it is told to: for stragglers, waits and time splits."""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from shoal.envs import pace
from shoal.envs.toy_vectors import at_least


class Paced(gymnasium.Env):
    """Random observations, a reward of 1 for action 1, and episodes of fixed length that are truncated.

    Args:
      step_s: mean cost of a step in seconds.
      spread: standard deviation of that cost over its mean; costs are log-normal, so never negative.
      busy: spend it working rather than asleep.
      reset_s: cost of a reset in seconds.
      obs_size: numbers in an observation.
      episode_steps: steps of an episode.

    Check: the data does not depend on `step_s`, `spread` or `busy`.
    """

    def __init__(
        self,
        *,
        step_s: float = 0.001,
        spread: float = 0.0,
        busy: bool = False,
        reset_s: float = 0.0,
        obs_size: int = 4,
        episode_steps: int = 100,
    ):
        for name, value in (("step_s", step_s), ("spread", spread), ("reset_s", reset_s)):
            at_least("toy:paced", name, value, 0.0)
        for name, value in (("obs_size", obs_size), ("episode_steps", episode_steps)):
            at_least("toy:paced", name, value, 1)
        self.observation_space = spaces.Box(0, 1, (obs_size,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._step_s, self._reset_s, self._busy = step_s, reset_s, busy
        self._sigma = math.sqrt(math.log1p(spread**2))
        self._episode_steps = episode_steps
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._steps = 0
        pace.spend(self._reset_s, self._busy)
        return self._draw_obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        pace.spend(self._draw_cost(), self._busy)
        self._steps += 1
        return self._draw_obs(), float(action == 1), False, self._steps >= self._episode_steps, {}

    def _draw_cost(self) -> float:
        """Seconds of one step: a log-normal with mean `step_s`."""
        return self._step_s * math.exp(self._sigma * self.np_random.standard_normal() - self._sigma**2 / 2)

    def _draw_obs(self) -> np.ndarray:
        return self.np_random.random(self.observation_space.shape, np.float32)
