# SPDX-License-Identifier: Apache-2.0
"""An environment that shows which process steps it, and how far it is."""

import os

import gymnasium
import numpy as np
from gymnasium import spaces


class Lives(gymnasium.Env):
    """Episodes of seven steps; observations are (process, steps since the process began, steps of the episode)."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 2**22, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._steps = self._count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self._seen(), {}

    def step(self, action):
        self._count += 1
        return self._seen(), 1.0, self._count >= 7, False, {}

    def _seen(self):
        self._steps += 1
        return np.array([os.getpid(), self._steps, self._count], np.float32)
