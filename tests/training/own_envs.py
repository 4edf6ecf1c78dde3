# SPDX-License-Identifier: Apache-2.0
"""Environments a user could have written: sound ones, ones that fail late, and one that never answers."""

import os
import time
from pathlib import Path

import gymnasium
import numpy as np

from shoal.types import ArraySpec, Discrete, EnvSpec, Steps


class Sound(gymnasium.Env):
    """Five steps an episode, reward 1 for action 1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action == 1), self.steps == 5, False, {}


class Late(Sound):
    """Sound for `calls` steps over all episodes, then broken for as long as `broken` is set."""

    broken = True
    calls = 60

    def __init__(self):
        self.count = 0

    def step(self, action):
        self.count += 1
        if self.broken and self.count > self.calls:
            return self.fail(action)
        return super().step(action)

    def fail(self, action):
        raise RuntimeError("the simulator lost its licence")


class NanLate(Late):
    """An observation that is no number."""

    def fail(self, action):
        return (np.full(3, np.nan, np.float32), *Sound.step(self, action)[1:])


class Stuck(Sound):
    """A step that does not return, and leaves a file where it is told to."""

    def step(self, action):
        Path(os.environ["STUCK"]).write_text("in a step")
        time.sleep(1000)


class Uneven:
    """A VectorEnv: environment i has episodes of i + 1 steps that return 10 * (i + 1)."""

    split_invariant = True
    spec = EnvSpec("made:uneven", ArraySpec((3,), "float32"), Discrete(2))
    seeds: list[int] = []

    def __init__(self, num_envs, first_index=0):
        self.num_envs, self.lengths = num_envs, 1 + np.arange(num_envs)

    def reset(self, seed):
        self.seeds.append(seed)
        self.age = np.zeros(self.num_envs, int)

    def send(self, action, slots=None):
        self.age = np.where(self.age == self.lengths, 0, self.age + 1)

    def recv(self, min_ready=None):
        no, valid = np.zeros(self.num_envs, bool), self.age > 0
        obs = np.zeros((self.num_envs, 3), np.float32)
        ended = self.age == self.lengths
        return Steps(np.arange(self.num_envs), obs, np.where(valid, 10.0, 0).astype(np.float32), ended, no, valid)

    def close(self):
        """Nothing is held."""
