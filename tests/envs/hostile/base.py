# SPDX-License-Identifier: Apache-2.0
"""What hostile environments share: an environment that behaves, and says what must come of those that don't."""

import numpy as np
from gymnasium import spaces

from shoal.errors import EnvironmentFault, ShoalError

AT = 2
"""the step, counted over all episodes, in which most of them turn"""
EPISODE = 3
"""steps of an episode"""


class Good:
    """Well behaved; the others differ from it in one thing."""

    fault = ""
    error: type[ShoalError] = EnvironmentFault
    dies = ""
    observation_space: spaces.Space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self):
        self.steps = 0

    @property
    def turned(self) -> bool:
        """Whether this is the step to misbehave in."""
        return self.steps == AT

    def observe(self):
        return np.full(3, 0.5, np.float32)

    def bad(self):
        """The observation of the step that goes wrong."""
        return self.observe()

    def reward(self):
        return 1.0

    def ends(self):
        return self.steps % EPISODE == 0

    def reset(self, *, seed=None, options=None):
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        obs = self.bad() if self.turned else self.observe()
        return obs, self.reward(), self.ends(), False, {}

    def close(self):
        pass
