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

STEPPING, PROGRAM, GO_ON = "stepping-", "program-", "go-on"
HELD = 60
"""steps after which an environment that is held waits: enough for rows of metrics, and too few to end a run"""


class Told(gymnasium.Env):
    """Episodes of ten steps that sleep. Leaves a file for its process with its first step, and for its program.

    One that is held waits in a step for the file that lets it go on, so that no run ends before the test has done its
    worst.
    """

    def __init__(self, *, folder: str, step_s: float = 0.004, program: bool = False, held: bool = False):
        self.observation_space = spaces.Box(0, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._folder, self._step_s, self._count, self._told = Path(folder), step_s, 0, False
        self._left = HELD if held else None
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
        self._hold()
        self._count += 1
        return self.np_random.random(4, np.float32), float(action == 1), False, self._count >= 10, {}

    def _hold(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            while not (self._folder / GO_ON).exists():
                time.sleep(0.01)
            self._left = None

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.wait()
