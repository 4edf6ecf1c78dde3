# SPDX-License-Identifier: Apache-2.0
"""Gymnasium spaces to shoal's specs: which observations and actions are supported, and how they are encoded."""

from typing import Any

import numpy as np
from gymnasium import spaces

from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, Discrete, EnvSpec

SUPPORTED_OBS = "Box and Discrete observations are supported: wrap the environment, for example with FlattenObservation"
SUPPORTED_ACTION = "Discrete and floating-point Box actions are supported: wrap the environment to offer one of them"


def obs_spec(env_id: str, space: Any) -> ArraySpec:
    """Box keeps shape and dtype, but floats become float32; Discrete becomes a one-hot float32 vector."""
    if isinstance(space, spaces.Discrete):
        return ArraySpec((int(space.n),), "float32")
    if isinstance(space, spaces.Box) and space.dtype is not None and np.dtype(space.dtype).kind in "buif":
        # wider floats would be narrowed on the way into the network anyway, after costing twice the bytes
        dtype = "float32" if np.dtype(space.dtype).kind == "f" else np.dtype(space.dtype).name
        return ArraySpec(tuple(int(n) for n in space.shape), dtype)
    raise ConfigError(f"{env_id}: observation space {_name(space)} is not supported; {SUPPORTED_OBS}")


def action_spec(env_id: str, space: Any) -> Discrete | Box:
    """The agent's side of the action space: indices from 0, or bounds for the unit scale."""
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f":
        low, high = (tuple(float(x) for x in bound.ravel()) for bound in (space.low, space.high))
        return Box(tuple(int(n) for n in space.shape), low, high)
    raise ConfigError(f"{env_id}: action space {_name(space)} is not supported; {SUPPORTED_ACTION}")


def env_spec(env_id: str, env: Any) -> EnvSpec:
    """The spec of one environment with Gymnasium's attributes."""
    for attribute in ("observation_space", "action_space", "reset", "step"):
        if getattr(env, attribute, None) is None:
            raise ConfigError(
                f"{env_id}: a {type(env).__name__} object has no {attribute}; an environment follows gymnasium.Env"
            )
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    obs = obs_spec(env_id, env.observation_space)
    return EnvSpec(env_id, obs, action_spec(env_id, env.action_space), None if limit is None else int(limit))


def _name(space: Any) -> str:
    return "None" if space is None else " ".join(str(space).split())[:100]
