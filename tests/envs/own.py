# SPDX-License-Identifier: Apache-2.0
"""A user's own environments: one that ends both ways, and ones whose spaces are out of the ordinary."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env):
    """A random walk pushed by the agent: terminated beyond 3, truncated after `limit` steps."""

    def __init__(self, limit: int = 8, tells: bool = False):
        self.observation_space = spaces.Box(-10, 10, (2,), np.float64)
        self.action_space = spaces.Discrete(2, start=1)
        self.limit = limit
        self.info = {"action_mask": np.array([1, 1], np.int8)} if tells else {}
        self.place = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.place[:] = self.np_random.normal(size=2) * 0.1
        return self.place, self.info

    def step(self, action):
        assert action in (1, 2)
        self.steps += 1
        # in place: the adapter must have copied what it was given
        self.place += self.np_random.normal(size=2) + (action - 1.5)
        return self.place, self.place[0], bool(abs(self.place[0]) > 3), self.steps >= self.limit, self.info


class Trees(gymnasium.Env):
    """Sees a tree of several kinds, chooses twice at once, may not choose the same twice; truncated after 6 steps."""

    def __init__(self):
        self.observation_space = spaces.Dict(
            last=spaces.MultiDiscrete([2, 3]),
            noise=spaces.Tuple([spaces.Box(-1, 1, (2,), np.float64), spaces.Discrete(4)]),
            action_mask=spaces.MultiBinary(5),
        )
        self.action_space = spaces.MultiDiscrete([2, 3])

    def observe(self):
        mask = np.ones(5, np.int8)
        mask[[self.last[0], 2 + self.last[1]]] = 0
        noise = (self.np_random.uniform(-1, 1, 2), self.np_random.integers(4))
        return {"last": self.last, "noise": noise, "action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.last = self.np_random.integers([2, 3])
        return self.observe(), {}

    def step(self, action):
        assert (action != self.last).all()
        self.steps += 1
        self.last[:] = action
        return self.observe(), float(action.sum()), False, self.steps == 6, {}


class Spaces(gymnasium.Env):
    """Any spaces, constant observations, one endless episode; remembers the actions it was given."""

    def __init__(self, obs, obs_space, action_space):
        self.obs, self.observation_space, self.action_space = obs, obs_space, action_space
        self.received = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.obs, {}

    def step(self, action):
        self.received.append(action)
        return self.obs, 0.0, False, False, {}


gymnasium.register("Walk-v3", entry_point=Walk)
