# SPDX-License-Identifier: Apache-2.0
"""An environment that tells in a folder which process steps it, and may start a program of its own."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPPING, PROGRAM = "stepping-", "program-"


class Told(gymnasium.Env):
    """Episodes of ten steps that sleep. Leaves a file for its process with its first step, and for its program."""

    def __init__(self, *, folder: str, step_s: float = 0.004, program: bool = False):
        self.observation_space = spaces.Box(0, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._folder, self._step_s, self._count, self._told = Path(folder), step_s, 0, False
        self._program = subprocess.Popen(["sleep", "1000"]) if program else None
        if self._program is not None:
            (self._folder / f"{PROGRAM}{self._program.pid}").touch()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._count = 0
        return self.np_random.random(4, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if not self._told:
            (self._folder / f"{STEPPING}{os.getpid()}").touch()
            self._told = True
        time.sleep(self._step_s)
        self._count += 1
        return self.np_random.random(4, np.float32), float(action == 1), False, self._count >= 10, {}

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.wait()
