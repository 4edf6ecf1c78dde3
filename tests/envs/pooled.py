# SPDX-License-Identifier: Apache-2.0
"""Environments for tests of workers: uneven ones, and ones that end or stop their process when they are told to."""

import ctypes
import os
import time

import numpy as np
from gymnasium import spaces

from envs.hostile.base import Good
from shoal import envs
from shoal.envs.pool import in_workers

SLEEP_S = 0.5
FINE, SLEEP, EXIT, CRASH, END = range(5)
"""actions of Uneven"""


class Uneven(Good):
    """Does what the action says: 1 sleeps, 2 ends the process, 3 reads where nothing is, 4 ends the episode.

    Observations are a number drawn from its seed, the episode, and the step in it.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = spaces.Discrete(5)

    def __init__(self):
        super().__init__()
        self.episode = 0
        self.draw = 0.0

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.draw = np.random.default_rng(seed).random()
            self.episode = 0
        self.episode += 1
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        return np.array([self.draw, self.episode, self.steps])

    def step(self, action):
        self.steps += 1
        if action == SLEEP:
            time.sleep(SLEEP_S)
        elif action == EXIT:
            os._exit(5)
        elif action == CRASH:
            ctypes.string_at(0)
        return self.observe(), 1.0, action == END, False, {}


class Held(Uneven):
    """Where the other one sleeps, it waits until a file is there."""

    def __init__(self, go: str):
        super().__init__()
        self.go = go

    def step(self, action):
        until = time.monotonic() + 60
        while action == SLEEP and not os.path.exists(self.go) and time.monotonic() < until:
            time.sleep(0.005)
        return super().step(FINE if action == SLEEP else action)


class Licensed(Good):
    """Can be made while a file is there."""

    def __init__(self, licence: str):
        super().__init__()
        if not os.path.exists(licence):
            raise OSError("no licence left")


class Fragile(Good):
    """Ends its process in the fifth step where there still is a fuse, which it uses up."""

    def __init__(self, fuse: str):
        super().__init__()
        self.fuse = fuse

    def step(self, action):
        if self.steps == 4 and self.first_at_the_fuse():
            os._exit(7)
        return super().step(action)

    def first_at_the_fuse(self) -> bool:
        """Several workers come here at once; only one of them finds the file to remove."""
        try:
            os.unlink(self.fuse)
        except FileNotFoundError:
            return False
        return True


def own_a_pool(link, _header, _descriptors, _server):
    """The entry of a child that steps a pool for ever, once it has told its workers' process ids."""
    pool = in_workers(envs.resolve("envs.pooled:Uneven"), 2, 60.0)(4, 0)
    pool.reset(0)
    pool.recv()
    link.send({"pids": pool.pids()})
    while True:
        pool.send(np.full(4, SLEEP))
        pool.recv()
