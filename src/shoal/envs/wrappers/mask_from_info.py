# SPDX-License-Identifier: Apache-2.0
"""Masks over actions that an environment gives in its info, as Gymnasium's Taxi does, moved into the observation."""

from functools import partial
from typing import Any

from gymnasium import spaces

from shoal.envs.base import EnvFactory
from shoal.envs.checks import Breach
from shoal.envs.masks import mask_size
from shoal.envs.single import single_factory
from shoal.envs.spaces import action_spec
from shoal.errors import ConfigError
from shoal.types import ACTION_MASK, Box


class MaskFromInfo:
    """One environment whose observation is {"obs": what it was, "action_mask": info["action_mask"]}."""

    def __init__(self, env: Any):
        self.env = env
        size = mask_size(action_spec("the environment", env.action_space))
        parts = {"obs": env.observation_space, ACTION_MASK: spaces.MultiBinary(size)}
        self.observation_space, self.action_space = spaces.Dict(parts), env.action_space
        self.spec = getattr(env, "spec", None)
        self.metadata = getattr(env, "metadata", {})

    def reset(self, **settings: Any) -> tuple[Any, dict]:
        """Gymnasium's reset."""
        obs, info = self.env.reset(**settings)
        return _with_mask(obs, info), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        """Gymnasium's step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return _with_mask(obs, info), reward, terminated, truncated, info

    def render(self) -> Any:
        """What the environment draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _with_mask(obs: Any, info: Any) -> dict[str, Any]:
    if not isinstance(info, dict) or ACTION_MASK not in info:
        held = ", ".join(map(str, info)) if isinstance(info, dict) and info else "nothing"
        raise Breach(f"gave no {ACTION_MASK} in its info, which holds {held}", "give it always, or drop mask_from_info")
    return {"obs": obs, ACTION_MASK: info[ACTION_MASK]}


def masked_by_info(factory: EnvFactory) -> EnvFactory:
    """The factory of single environments with their masks in the observation.

    Raises:
      ConfigError: there is no single form with an info, or actions are a Box.
      EnvironmentFault: its info holds no mask after a reset.
    """
    if factory.construct is None:
        reason = "it is stepped many at once, and only single environments have an info to read"
        raise ConfigError(f"{factory.name}: mask_from_info cannot be used: {reason}; set it to false")
    if isinstance(factory.spec.action, Box):
        raise ConfigError(f"{factory.name}: mask_from_info masks no Box actions; set it to false")
    masked = single_factory(factory.name, partial(construct_masked, factory.construct))
    env = masked.make(1)
    try:
        env.reset(0)
    finally:
        env.close()
    return masked


def construct_masked(construct: Any, **settings: Any) -> MaskFromInfo:
    """One environment with its mask in the observation."""
    return MaskFromInfo(construct(**settings))
