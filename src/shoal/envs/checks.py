# SPDX-License-Identifier: Apache-2.0
"""Defensive checks on what one environment's `reset` and `step` return, before anything else sees it.

The form of observations is checked where they are copied: see `encoding`.
"""

import math
from typing import Any

import numpy as np

from shoal.types import ACTION_MASK

FLOAT32_MAX = float(np.finfo(np.float32).max)
FEW = 32
"""numbers for which a loop in Python beats two calls of NumPy"""
RESET_REMEDY = "return (obs, info) as gymnasium.Env.reset does"
STEP_REMEDY = "return (obs, reward, terminated, truncated, info) as gymnasium.Env.step does"
OBS_REMEDY = "return what observation_space declares"


class Breach(Exception):
    """What an environment returned that it must not, and the remedy. The adapter adds who, when and which seed."""

    def __init__(self, what: str, remedy: str, entry: str = ""):
        super().__init__(what)
        self.remedy, self.entry = remedy, entry
        self._what = what

    @property
    def what(self) -> str:
        """What is wrong and, in an observation of several entries, where."""
        return f"{self._what}, in entry {self.entry!r}" if self.entry else self._what

    def within(self, name: str) -> "Breach":
        """The same, found in entry `name` of something larger."""
        return Breach(self._what, self.remedy, f"{name}/{self.entry}" if self.entry else name)


def take_reset(result: Any) -> Any:
    """The obs of a `reset` result."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise Breach(f"returned {form(result)} from reset", RESET_REMEDY)
    if not isinstance(result[1], dict):
        raise Breach(f"returned {form(result[1])} as info from reset", RESET_REMEDY)
    return result[0]


def take_step(result: Any) -> tuple[Any, float, bool, bool]:
    """The obs, reward, terminated and truncated of a `step` result."""
    if not isinstance(result, tuple) or len(result) != 5:
        raise Breach(f"returned {form(result)} from step", STEP_REMEDY)
    obs, reward, terminated, truncated, _ = result
    # the usual forms are told here: a call for each of them would cost more than the whole check
    if type(reward) is not float or not -FLOAT32_MAX <= reward <= FLOAT32_MAX:  # NaN fails it
        reward = _reward(reward)
    if terminated is not False and terminated is not True:
        terminated = _flag("terminated", terminated)
    if truncated is not False and truncated is not True:
        truncated = _flag("truncated", truncated)
    return obs, reward, terminated, truncated


def are_finite(numbers: np.ndarray) -> bool:
    """Whether all numbers [n] are finite; a few are asked one by one, which is quicker than by array."""
    if len(numbers) <= FEW:
        return all(map(math.isfinite, numbers.tolist()))
    return bool(np.isfinite(numbers).all())


def refuse_non_finite(row: np.ndarray, entry: str) -> None:
    """Raise for one environment's array that holds a NaN or an infinity."""
    if not np.isfinite(row).all():
        what = f"returned an obs that is not finite ({_first_bad(row)})"
        raise Breach(what, "check the simulator for overflow", entry)


def no_legal_action() -> Breach:
    """For an environment that goes on and leaves its agent nothing to do."""
    what = f"offers no legal action, yet the episode goes on ({ACTION_MASK} forbids all)"
    return Breach(what, "leave an action legal or end the episode")


def _reward(reward: Any) -> float:
    if isinstance(reward, np.ndarray) and reward.ndim == 0:
        reward = reward[()]
    if not isinstance(reward, (float, int, np.floating, np.integer, np.bool_)):
        raise Breach(f"returned {form(reward)} as reward", "return one number")
    value = float(reward)
    if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
        raise Breach(f"returned reward {value}", "return finite rewards that fit float32")
    return value


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == np.bool_:
        return bool(value)
    raise Breach(f"returned {form(value)} as {name}", f"return {name} as a bool")


def form(value: Any) -> str:
    """A value's form in a few words: its type, and its length or shape."""
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{type(value).__name__} {repr(value)[:60]}"


def _first_bad(row: np.ndarray) -> str:
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(row))[0])
    return f"{row[place]} at index {place}"
