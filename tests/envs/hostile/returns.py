# SPDX-License-Identifier: Apache-2.0
"""Environments that return what they must not."""

import numpy as np
from gymnasium import spaces

from envs.hostile.base import Good


class NanObs(Good):
    """A NaN in an observation."""

    fault = r"not finite \(nan at index \(1,\)\); check the simulator"

    def bad(self):
        return np.array([0, np.nan, 0], np.float32)


class InfiniteObs(Good):
    """An infinity in an observation."""

    fault = r"not finite \(-inf at index \(0,\)\)"

    def bad(self):
        return np.array([-np.inf, 0, 0], np.float32)


class ObsBeyondFloat32(Good):
    """A float64 that float32 cannot hold."""

    fault = r"not finite \(inf at index \(2,\)\)"

    def bad(self):
        return np.array([0, 0, 1e300])


class ShortObs(Good):
    """An observation of another shape."""

    fault = r"obs of shape \(2,\), declared \(3,\)"

    def bad(self):
        return np.zeros(2, np.float32)


class TextObs(Good):
    """Words in place of numbers."""

    fault = "obs of dtype <U4, declared float32"

    def bad(self):
        return ["left", "left", "up"]


class ObjectObs(Good):
    """An array of Python objects."""

    fault = "obs of dtype object, declared float32"

    def bad(self):
        return np.array([0.0, None, object()], object)


class RaggedObs(Good):
    """No array at all."""

    fault = "an obs that is no array"

    def bad(self):
        return [[1, 2], [3]]


class NoObs(Good):
    """None in place of an observation."""

    fault = "returned None as obs"

    def bad(self):
        return None


class FloatScreen(Good):
    """Screens scaled to floats although bytes are declared."""

    fault = "obs of dtype float64, declared uint8"
    observation_space = spaces.Box(0, 255, (2, 2), np.uint8)

    def observe(self):
        return np.zeros((2, 2), np.uint8)

    def bad(self):
        return np.ones((2, 2)) / 2


class DiscreteOutOfSpace(Good):
    """A number that its Discrete space does not hold."""

    fault = r"returned obs 7, declared 0 \.\. 3"
    observation_space = spaces.Discrete(4)

    def observe(self):
        return 3

    def bad(self):
        return 7


class BoxOutOfSpace(Good):
    """Numbers beyond the bounds of its Box: bounds are often declared carelessly and change nothing here."""

    def bad(self):
        return np.full(3, 1000, np.float32)


class OddArrays(Good):
    """Read-only, big-endian and strided arrays: all hold what was declared."""

    def bad(self):
        array = np.zeros(6, ">f4")[::2]
        array.flags.writeable = False
        return array


class FourTuple(Good):
    """Gym's old step with one flag for both ends."""

    fault = r"returned 4 values from step; return \(obs, reward, terminated, truncated, info\)"

    def step(self, action):
        return self.observe(), 0.0, False, {}


class NoStepResult(Good):
    """Forgets to return anything."""

    fault = "returned None from step"

    def step(self, action):
        self.steps += 1


class OldReset(Good):
    """Gym's old reset: no seed, and the observation alone."""

    fault = "unexpected keyword argument 'seed' in reset"

    def reset(self):
        return self.observe()


class ResetWithoutInfo(Good):
    """Returns the observation alone from reset."""

    fault = r"returned an array of shape \(3,\) and dtype float32 from reset; return \(obs, info\)"

    def reset(self, *, seed=None, options=None):
        return self.observe()


class NoReward(Good):
    """None as reward."""

    fault = "returned None as reward; return one number"

    def reward(self):
        return None if self.turned else 1.0


class NanReward(Good):
    """NaN as reward."""

    fault = "returned reward nan; return finite rewards"

    def reward(self):
        return float("nan") if self.turned else 1.0


class HugeReward(Good):
    """A reward that float32 cannot hold."""

    fault = r"returned reward 1e\+300"

    def reward(self):
        return 1e300 if self.turned else 1.0


class RewardPerPlayer(Good):
    """Two rewards."""

    fault = r"an array of shape \(2,\) and dtype float64 as reward"

    def reward(self):
        return np.zeros(2)


class NoFlag(Good):
    """None as terminated."""

    fault = "returned None as terminated; return terminated as a bool"

    def ends(self):
        return None
