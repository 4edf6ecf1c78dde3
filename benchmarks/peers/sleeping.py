# SPDX-License-Identifier: Apache-2.0
"""An environment that sleeps 5 ms a step, for shoal and its peers alike. Needs Gymnasium only."""

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEP_S = 0.005
LENGTH = 200


class Sleeping(gymnasium.Env):
    """Episodes of 200 steps."""

    def __init__(self, *_: Any, **__: Any):
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._count = 0
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        time.sleep(STEP_S)
        self._count += 1
        obs = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return obs, float(action == 1), False, self._count >= LENGTH, {}
