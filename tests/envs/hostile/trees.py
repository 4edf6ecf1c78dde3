# SPDX-License-Identifier: Apache-2.0
"""Environments whose dicts, tuples, masks and spaces are not what they declare."""

import numpy as np
from gymnasium import spaces

from envs.hostile.base import Good
from shoal.errors import ConfigError

BOX = spaces.Box(-1, 1, (2,), np.float32)


class GoodDict(Good):
    """Sees two entries and a mask, as declared."""

    observation_space = spaces.Dict(eye=BOX, ear=spaces.Discrete(3), action_mask=spaces.MultiBinary(2))

    def observe(self):
        return {"eye": np.zeros(2, np.float32), "ear": 1, "action_mask": np.array([1, 1], np.int8)}


class MissingEntry(GoodDict):
    """Forgets an entry."""

    fault = "an obs without entry 'ear'; return what observation_space declares"

    def bad(self):
        obs = self.observe()
        del obs["ear"]
        return obs


class WrongKey(GoodDict):
    """Names an entry otherwise than it declares."""

    fault = "an obs without entry 'ear' and with undeclared entry 'Ear'"

    def bad(self):
        obs = self.observe()
        return {name.replace("ear", "Ear"): part for name, part in obs.items()}


class ArrayForDict(GoodDict):
    """Returns an array where a dict is declared."""

    fault = r"an array of shape \(2,\) and dtype float32 as obs, declared a dict of action_mask, ear, eye"

    def bad(self):
        return self.observe()["eye"]


class NanEntry(GoodDict):
    """A NaN in one entry."""

    fault = r"not finite \(nan at index \(0,\)\), in entry 'eye'"

    def bad(self):
        return self.observe() | {"eye": np.full(2, np.nan, np.float32)}


class ShortTuple(Good):
    """Returns one entry where two are declared, deep inside."""

    fault = "returned 1 values as obs, declared a tuple of 2 entries, in entry 'arm'"
    observation_space = spaces.Dict(arm=spaces.Tuple([BOX, BOX]))

    def observe(self):
        return {"arm": (np.zeros(2), np.zeros(2))}

    def bad(self):
        return {"arm": (np.zeros(2),)}


class MissingMask(GoodDict):
    """Forgets the mask."""

    fault = "an obs without entry 'action_mask'"

    def bad(self):
        obs = self.observe()
        del obs["action_mask"]
        return obs


class LongMask(GoodDict):
    """A mask for more actions than there are."""

    fault = r"an obs of shape \(3,\), declared \(2,\), in entry 'action_mask'"

    def bad(self):
        return self.observe() | {"action_mask": np.ones(3, np.int8)}


class MaskOfProbabilities(GoodDict):
    """A mask that is neither yes nor no."""

    fault = "other values than the bits 0 and 1, in entry 'action_mask'"

    def bad(self):
        return self.observe() | {"action_mask": np.array([0.3, 0.7])}


class MaskForbidsAll(GoodDict):
    """Leaves no action and goes on."""

    fault = "offers no legal action, yet the episode goes on"

    def bad(self):
        return self.observe() | {"action_mask": np.zeros(2, np.int8)}


class MaskForbidsAllAtTheEnd(GoodDict):
    """Leaves no action where an episode ends, as there is none to take."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if terminated:
            obs["action_mask"][:] = 0
        return obs, reward, terminated, truncated, info


class MaskDeclaredTooLong(GoodDict):
    """Declares a mask for more actions than there are."""

    error = ConfigError
    fault = r"action_mask has shape \(5,\), the actions need \(2,\)"
    observation_space = spaces.Dict(eye=BOX, action_mask=spaces.MultiBinary(5))


class NoActionSpace(Good):
    """Declares no actions."""

    error = ConfigError
    fault = "a NoActionSpace object has no action_space; an environment follows gymnasium.Env"
    action_space = None  # type: ignore[assignment]


class UnsupportedSpace(Good):
    """Speaks."""

    error = ConfigError
    fault = r"observation space Text\(1, 9, .*\) is not supported; Box, Discrete"
    observation_space = spaces.Text(9)


class ChangesItsSpace(Good):
    """Every environment sees one number more than the one before."""

    fault = r"obs of shape \(\d+,\), declared \(\d+,\)"
    made = 2

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.size = self.made
        self.observation_space = spaces.Box(-1, 1, (self.size,), np.float32)

    def observe(self):
        return np.zeros(self.size, np.float32)
