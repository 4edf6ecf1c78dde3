# SPDX-License-Identifier: Apache-2.0
"""Toy robots, whose steps take real time that no computer shortens: more of them is the only way to more data."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from shoal.envs import pace
from shoal.envs.toy_vectors import at_least

STRIDE = np.float32(0.1)
"""of a reacher's hand in a step, along each axis at most"""
WIDTH = 0.25
"""radians off the best angle at which a grasp still succeeds in three of five attempts"""


class Reacher(gymnasium.Env):
    """A hand on a table, to be moved onto a target; each step costs its distance from it.

    Observations are the hand's and the target's places [4], actions its velocity [2]. Episodes are truncated after
    `episode_steps`. Straight to the target returns about -5, random moves about -43.

    Args:
      step_s: seconds that a step takes, asleep: a control rate of 1 / step_s.
      episode_steps: steps of an episode.

    Check: the data does not depend on `step_s`.
    """

    def __init__(self, *, step_s: float = 0.01, episode_steps: int = 40):
        at_least("toy:reacher", "step_s", step_s, 0.0)
        at_least("toy:reacher", "episode_steps", episode_steps, 1)
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self._step_s, self._episode_steps = step_s, episode_steps
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._steps = 0
        self._places = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return self._places.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        pace.spend(self._step_s, busy=False)
        hand, target = self._places[:2], self._places[2:]
        hand[:] = np.clip(hand + STRIDE * np.clip(action, -1, 1), -1, 1)
        self._steps += 1
        distance = float(np.linalg.norm(hand - target))
        return self._places.copy(), -distance, False, self._steps >= self._episode_steps, {}


class Grasp(gymnasium.Env):
    """An object on a table, to be grasped at once from one of several angles: 1 for success, 0 else.

    Observations are the object's direction, as cosine and sine of twice its angle, and its place, which does not matter
    [4]. Success is more likely the closer the gripper's angle comes to the object's. The best angle succeeds in nine of
    ten attempts, a random one in two.

    Args:
      step_s: seconds that an attempt takes, asleep.
      angles: between which the gripper chooses, evenly over half a turn.

    Check: the data does not depend on `step_s`.
    """

    def __init__(self, *, step_s: float = 0.01, angles: int = 8):
        at_least("toy:grasp", "step_s", step_s, 0.0)
        at_least("toy:grasp", "angles", angles, 2)
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(angles)
        self._step_s, self._angles, self._angle = step_s, angles, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._angle = self.np_random.uniform(0, np.pi)
        direction = np.cos(2 * self._angle), np.sin(2 * self._angle)
        self._seen = np.array([*direction, *self.np_random.uniform(-1, 1, 2)], np.float32)
        return self._seen, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        pace.spend(self._step_s, busy=False)
        off = (action * np.pi / self._angles - self._angle + np.pi / 2) % np.pi - np.pi / 2
        success = self.np_random.random() < np.exp(-0.5 * (off / WIDTH) ** 2)
        return self._seen, float(success), True, False, {}
