# SPDX-License-Identifier: Apache-2.0
"""Gymnasium spaces to shoal's specs: which observations and actions are supported, and in which form they travel."""

from typing import Any

import numpy as np
from gymnasium import spaces

from shoal.envs.masks import mask_size
from shoal.errors import ConfigError
from shoal.types import ACTION_MASK, ActionSpec, ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete, ObsSpec

SUPPORTED_OBS = (
    "Box, Discrete, MultiDiscrete, MultiBinary and Dict or Tuple of them are supported: wrap the environment, for "
    "example with gymnasium.wrappers.TransformObservation"
)
SUPPORTED_ACTION = (
    "Discrete, MultiDiscrete, MultiBinary and floating-point Box actions are supported: wrap the environment to offer "
    "one of them"
)
MASK_REMEDY = "declare spaces.MultiBinary(n) or an int8 Box of shape (n,), n being the number of actions"


def obs_spec(env_id: str, space: Any, path: str = "") -> ObsSpec:
    """The tree of arrays in which an observation travels.

    Box keeps shape and dtype, but floats become float32; MultiBinary becomes float32 of its shape; Discrete becomes a
    one-hot float32 vector, MultiDiscrete the vectors of all its numbers one after another; Dict and Tuple become dicts
    and tuples of what they hold.

    Raises:
      ConfigError: a space of another kind, or a Dict or Tuple that holds nothing.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces))
        if not parts:
            raise ConfigError(f"{env_id}: observation space {_name(space)}{_at(path)} holds nothing; give it an entry")
        found = {name: obs_spec(env_id, part, f"{path}/{name}".lstrip("/")) for name, part in parts.items()}
        return dict(sorted(found.items())) if isinstance(space, spaces.Dict) else tuple(found.values())
    if isinstance(space, spaces.Discrete):
        return ArraySpec((int(space.n),), "float32")
    if isinstance(space, spaces.MultiDiscrete):
        return ArraySpec((int(space.nvec.sum()),), "float32")
    if isinstance(space, spaces.MultiBinary):
        return ArraySpec(tuple(int(n) for n in space.shape), "float32")
    if isinstance(space, spaces.Box) and space.dtype is not None and np.dtype(space.dtype).kind in "buif":
        # wider floats would be narrowed on the way into the network anyway, after costing twice the bytes
        dtype = "float32" if np.dtype(space.dtype).kind == "f" else np.dtype(space.dtype).name
        return ArraySpec(tuple(int(n) for n in space.shape), dtype)
    raise ConfigError(f"{env_id}: observation space {_name(space)}{_at(path)} is not supported; {SUPPORTED_OBS}")


def action_spec(env_id: str, space: Any) -> ActionSpec:
    """The agent's side of the action space: indices from 0, or bounds for the unit scale."""
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscrete(tuple(int(n) for n in space.nvec.ravel()))
    if isinstance(space, spaces.MultiBinary):
        return MultiDiscrete((2,) * int(np.prod(space.shape)))
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f":
        low, high = (tuple(float(x) for x in bound.ravel()) for bound in (space.low, space.high))
        return Box(tuple(int(n) for n in space.shape), low, high)
    raise ConfigError(f"{env_id}: action space {_name(space)} is not supported; {SUPPORTED_ACTION}")


def env_spec(env_id: str, env: Any) -> EnvSpec:
    """The spec of one environment with Gymnasium's attributes.

    Raises:
      ConfigError: it has no such attributes, or spaces that are not supported, or a mask that fits no action.
    """
    for attribute in ("observation_space", "action_space", "reset", "step"):
        if getattr(env, attribute, None) is None:
            raise ConfigError(
                f"{env_id}: a {type(env).__name__} object has no {attribute}; an environment follows gymnasium.Env"
            )
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    return spec_of_spaces(env_id, env.observation_space, env.action_space, limit)


def spec_of_spaces(env_id: str, obs_space: Any, action_space: Any, limit: int | None) -> EnvSpec:
    """The spec of an environment with these spaces and this limit on the steps of an episode.

    Raises:
      ConfigError: spaces that are not supported, or a mask that fits no action.
    """
    obs, action = obs_spec(env_id, obs_space), action_spec(env_id, action_space)
    if isinstance(obs, dict) and ACTION_MASK in obs:
        obs |= {ACTION_MASK: mask_spec(env_id, obs_space[ACTION_MASK], action)}
        if len(obs) == 1:
            raise ConfigError(f"{env_id}: observations are nothing but {ACTION_MASK}; add what the policy sees")
    return EnvSpec(env_id, obs, action, None if limit is None else int(limit))


def mask_spec(env_id: str, space: Any, action: ActionSpec) -> ArraySpec:
    """The form of a mask over actions: bool [n], or [sum of sizes] for MultiDiscrete.

    Raises:
      ConfigError: the declared mask has another size or is no array of bits, or the actions cannot be masked.
    """
    if isinstance(action, Box):
        raise ConfigError(f"{env_id}: {ACTION_MASK} masks no Box actions; remove it or offer Discrete actions")
    wanted = (mask_size(action),)
    bits = isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and space.dtype.kind in "bui")
    if not bits:
        raise ConfigError(f"{env_id}: {ACTION_MASK} is declared as {_name(space)}; {MASK_REMEDY}")
    if space.shape != wanted:
        raise ConfigError(f"{env_id}: {ACTION_MASK} has shape {space.shape}, the actions need {wanted}; {MASK_REMEDY}")
    return ArraySpec(wanted, "bool")


def _at(path: str) -> str:
    return f" (entry {path!r})" if path else ""


def _name(space: Any) -> str:
    return "None" if space is None else " ".join(str(space).split())[:100]
