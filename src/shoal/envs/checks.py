# SPDX-License-Identifier: Apache-2.0
"""Defensive checks on what one environment's `reset` and `step` return, before anything else sees it."""

import math
from typing import Any

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
RESET_REMEDY = "return (obs, info) as gymnasium.Env.reset does"
STEP_REMEDY = "return (obs, reward, terminated, truncated, info) as gymnasium.Env.step does"
OBS_REMEDY = "return what observation_space declares"


class Breach(Exception):
    """What an environment returned that it must not, and the remedy. The adapter adds who, when and which seed."""

    def __init__(self, what: str, remedy: str):
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def take_reset(result: Any) -> Any:
    """The obs of a `reset` result."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise Breach(f"returned {_form(result)} from reset", RESET_REMEDY)
    if not isinstance(result[1], dict):
        raise Breach(f"returned {_form(result[1])} as info from reset", RESET_REMEDY)
    return result[0]


def take_step(result: Any) -> tuple[Any, float, bool, bool]:
    """The obs, reward, terminated and truncated of a `step` result."""
    if not isinstance(result, tuple) or len(result) != 5:
        raise Breach(f"returned {_form(result)} from step", STEP_REMEDY)
    obs, reward, terminated, truncated, _ = result
    return obs, _reward(reward), _flag("terminated", terminated), _flag("truncated", truncated)


def write_box(row: np.ndarray, obs: Any) -> None:
    """Copy a Box obs into its row of the batch; copying also ends any aliasing with the environment's own array.

    Whether it is finite is asked once for the whole batch: see `refuse_non_finite`.
    """
    if type(obs) is np.ndarray and obs.dtype == row.dtype and obs.shape == row.shape:
        row[...] = obs
        return
    if obs is None:
        raise Breach("returned None as obs", OBS_REMEDY)
    try:
        array = np.asarray(obs)
    except ValueError as error:
        raise Breach(f"returned an obs that is no array ({error})", OBS_REMEDY) from error
    if array.shape != row.shape:
        raise Breach(f"returned an obs of shape {array.shape}, declared {row.shape}", OBS_REMEDY)
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused with the batch
            np.copyto(row, array, casting="same_kind")
    except TypeError as error:
        raise Breach(f"returned an obs of dtype {array.dtype}, declared {row.dtype}", OBS_REMEDY) from error


def refuse_non_finite(row: np.ndarray) -> None:
    """Raise for one environment's obs that holds a NaN or an infinity."""
    if row.dtype.kind == "f" and not np.isfinite(row).all():
        raise Breach(f"returned an obs that is not finite ({_first_bad(row)})", "check the simulator for overflow")


def write_one_hot(row: np.ndarray, obs: Any, start: int) -> None:
    """Encode a Discrete obs as one-hot; `start` is the space's first value."""
    if isinstance(obs, np.ndarray) and obs.ndim == 0:
        obs = obs[()]
    if not isinstance(obs, (int, np.integer)):
        raise Breach(f"returned {_form(obs)} as a Discrete obs", OBS_REMEDY)
    if not 0 <= int(obs) - start < len(row):
        raise Breach(f"returned obs {obs}, declared {start} .. {start + len(row) - 1}", OBS_REMEDY)
    row[:] = 0
    row[int(obs) - start] = 1


def _reward(reward: Any) -> float:
    if type(reward) is float and -FLOAT32_MAX <= reward <= FLOAT32_MAX:  # the usual case; NaN fails it
        return reward
    if isinstance(reward, np.ndarray) and reward.ndim == 0:
        reward = reward[()]
    if not isinstance(reward, (float, int, np.floating, np.integer, np.bool_)):
        raise Breach(f"returned {_form(reward)} as reward", "return one number")
    value = float(reward)
    if not math.isfinite(value) or abs(value) > FLOAT32_MAX:
        raise Breach(f"returned reward {value}", "return finite rewards that fit float32")
    return value


def _flag(name: str, value: Any) -> bool:
    if value is False or value is True:
        return value
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == np.bool_:
        return bool(value)
    raise Breach(f"returned {_form(value)} as {name}", f"return {name} as a bool")


def _form(value: Any) -> str:
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
