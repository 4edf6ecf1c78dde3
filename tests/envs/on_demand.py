# SPDX-License-Identifier: Apache-2.0
"""An environment that misbehaves on demand."""

import sys
from types import SimpleNamespace

import numpy as np
from gymnasium import spaces

GOOD_OBS = np.zeros(3, np.float32)


class Hostile:
    """Follows the API but for one call: what `reset` or `step` number `at` does instead. Ends every third step."""

    def __init__(self, reset=None, step=None, at=1, obs_space=None):
        self.observation_space = obs_space or spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.good_obs = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        self.bad_reset, self.bad_step, self.at = reset, step, at
        self.calls = SimpleNamespace(reset=0, step=0)

    def reset(self, *, seed=None, options=None):
        self.calls.reset += 1
        if self.bad_reset and self.calls.reset == self.at:
            return self.bad_reset()
        return self.good_obs, {}

    def step(self, action):
        self.calls.step += 1
        if self.bad_step and self.calls.step == self.at:
            return self.bad_step()
        return self.good_obs, 0.0, self.calls.step % 3 == 0, False, {}


def raising(error):
    """A call that raises."""

    def call():
        raise error

    return call


def returning(*values):
    """A call that returns a tuple, or its only value."""
    return lambda: values if len(values) > 1 else values[0]


def stepping(obs=GOOD_OBS, reward=0.0, terminated=False, truncated=False):
    """A step that returns these."""
    return returning(obs, reward, terminated, truncated, {})


BAD_STEPS = {
    "raises": (raising(RuntimeError("no such\n  joint")), "raised RuntimeError: no such joint in step"),
    "raises without a message": (raising(RuntimeError()), "raised RuntimeError in step"),
    "exits": (lambda: sys.exit(3), "raised SystemExit: 3 in step"),
    "raises no Exception": (raising(BaseException("odd")), "raised BaseException: odd in step"),
    "returns None": (returning(None), "returned None from step; return (obs, reward, terminated, truncated, info)"),
    "returns four values": (returning(GOOD_OBS, 0.0, False, {}), "returned 4 values from step"),
    "returns a list": (lambda: [GOOD_OBS, 0.0, False, False, {}], "returned list"),
    "obs None": (stepping(obs=None), "returned None as obs"),
    "obs NaN": (stepping(obs=np.array([0, np.nan, 0])), "an obs that is not finite (nan at index (1,))"),
    "obs infinite": (stepping(obs=np.array([0, 0, np.inf])), "an obs that is not finite (inf at index (2,))"),
    "obs too large for float32": (stepping(obs=np.array([0, 0, 1e300])), "not finite (inf at index (2,))"),
    "obs too short": (stepping(obs=np.zeros(2)), "an obs of shape (2,), declared (3,)"),
    "obs a number": (stepping(obs=0.0), "an obs of shape (), declared (3,)"),
    "obs ragged": (stepping(obs=[[1, 2], [3]]), "an obs that is no array"),
    "obs text": (stepping(obs=["a", "b", "c"]), "an obs of dtype <U1, declared float32"),
    "obs complex": (stepping(obs=np.zeros(3, complex)), "an obs of dtype complex128, declared float32"),
    "reward None": (stepping(reward=None), "returned None as reward; return one number"),
    "reward NaN": (stepping(reward=float("nan")), "returned reward nan"),
    "reward infinite": (stepping(reward=np.float64("inf")), "returned reward inf"),
    "reward too large": (stepping(reward=1e300), "returned reward 1e+300"),
    "reward an array": (stepping(reward=np.zeros(1)), "an array of shape (1,) and dtype float64 as reward"),
    "reward text": (stepping(reward="1"), "returned str '1' as reward"),
    "terminated None": (stepping(terminated=None), "returned None as terminated; return terminated as a bool"),
    "terminated an array": (stepping(terminated=np.zeros(1, bool)), "of shape (1,) and dtype bool as terminated"),
    "truncated a number": (stepping(truncated=0.5), "returned float 0.5 as truncated"),
}

BAD_RESETS = {
    "raises": (raising(ValueError("broken")), "raised ValueError: broken in reset; fix the environment's reset"),
    "returns None": (returning(None), "returned None from reset; return (obs, info)"),
    "returns obs alone": (returning(GOOD_OBS), "returned an array of shape (3,) and dtype float32 from reset"),
    "returns three values": (returning(GOOD_OBS, {}, 0), "returned 3 values from reset"),
    "no info": (returning(GOOD_OBS, None), "returned None as info from reset"),
    "obs None": (returning(None, {}), "returned None as obs"),
    "obs NaN": (returning(np.full(3, np.nan), {}), "an obs that is not finite (nan at index (0,))"),
    "obs too long": (returning(np.zeros(4), {}), "an obs of shape (4,), declared (3,)"),
}
