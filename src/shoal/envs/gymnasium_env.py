# SPDX-License-Identifier: Apache-2.0
"""Gymnasium ids: the environment's own vector form where it is the same environment, else single ones in a row.

The vector path adds next to nothing to a step, so it checks declarations once, at reset; whoever collects the
unroll checks once that its numbers are finite.
"""

import importlib
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from shoal import seeds
from shoal.envs import spaces
from shoal.envs.base import EnvFactory, describe_error, in_slot_order, one_line
from shoal.envs.modules import accepted_names, import_user_module, refuse_keywords
from shoal.envs.single import close_quietly, construction_fault, single_factory
from shoal.envs.wrappers.time_limit import shorter
from shoal.errors import ConfigError, EnvironmentFault
from shoal.types import EnvSpec, Steps

NATIVE = "vector_entry_point"
PLACEHOLDERS = ("GymV21Environment", "GymV26Environment")


class NativeVector:
    """An environment's own vector form, which resets on the next step and steps all its environments together.

    One generator serves all of them, so the data depends on how environments are split over actors.
    """

    split_invariant = False
    steps_apart = False

    def __init__(self, spec: EnvSpec, env_id: str, kwargs: dict[str, Any], num_envs: int, first_index: int = 0):
        self.spec = spec
        self.num_envs = num_envs
        self._first_index = first_index
        self._env = make_native(env_id, kwargs, num_envs)
        self._closed = False
        self._slots = np.arange(num_envs)
        self._seed: int | None = None
        self._steps = 0
        self._pending: Any = None
        self._ended = np.ones(num_envs, bool)

    def reset(self, seed: int) -> None:
        self._steps = 0
        self._seed = seeds.derive(seed, "env", self._first_index)
        try:
            obs, _ = self._env.reset(seed=self._seed)
        except Exception as error:
            raise self._fault(f"raised {describe_error(error)} in reset", "fix the environment's reset") from error
        expected = (self.num_envs, *self.spec.obs.shape)
        if obs.shape != expected or obs.dtype != self.spec.obs.dtype:
            what = f"obs {obs.shape} {obs.dtype} from reset, declared {expected} {self.spec.obs.dtype}"
            raise self._fault(f"returned {what}", "return what observation_space declares")
        none = np.zeros(self.num_envs, bool)
        # as if every episode had just ended: the first rows are reset rows
        self._ended = np.ones(self.num_envs, bool)
        self._pending = (obs, np.zeros(self.num_envs, np.float32), none, none.copy(), {})

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        if self._pending is not None:
            raise ValueError("an environment was sent an action before its last row was received")
        if slots is not None or len(action) != self.num_envs:
            action = in_slot_order(action, slots, self.num_envs)
        self._steps += 1
        try:
            self._pending = self._env.step(action)
        except Exception as error:
            raise self._fault(f"raised {describe_error(error)} in step", "fix the environment's step") from error

    def recv(self, min_ready: int | None = None) -> Steps:
        """One row of every environment: they answer together."""
        if self._pending is None:
            raise ValueError("nothing to receive: send actions first")
        obs, reward, terminated, truncated, _ = self._pending
        self._pending = None
        if reward.dtype != np.float32:
            reward = reward.astype(np.float32)
        valid = ~self._ended
        self._ended = terminated | truncated
        return Steps(self._slots, obs, reward, terminated, truncated, valid)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            close_quietly(self._env)

    def _fault(self, what: str, remedy: str) -> EnvironmentFault:
        indices = f"{self._first_index} .. {self._first_index + self.num_envs - 1}"
        where = f"environments {indices} (seed {self._seed}, step {self._steps})"
        return EnvironmentFault(f"{self.spec.id}: {where} {what}; {remedy}")


def make_single(env_id: str, kwargs: dict[str, Any], **settings: Any) -> Any:
    """One environment by its id. shoal checks results itself, so Gymnasium's checker stays off."""
    load_plugins(env_id)
    return gymnasium.make(env_id, disable_env_checker=True, **(kwargs | settings))


def make_native(env_id: str, kwargs: dict[str, Any], num_envs: int) -> Any:
    """The environment's own vector form."""
    load_plugins(env_id)
    return gymnasium.make_vec(env_id, num_envs, vectorization_mode=NATIVE, **kwargs)


def is_registered(env_id: str) -> bool:
    """Whether Gymnasium knows the id by itself.

    ale-py adds its ids without namespace as soon as anything imports it. They give raw screens of 210 x 160, which
    nobody who types them means, so they count as unknown here and the nearest id is `ale:<game>`.
    """
    load_plugins(env_id)
    found = gymnasium.registry.get(env_id)
    return found is not None and (env_id.startswith("ALE/") or not str(found.entry_point).startswith("ale_py"))


def newest_ids() -> list[str]:
    """Gymnasium's own ids, the newest version of each, without those that stand for environments of older releases."""
    newest: dict[str, Any] = {}
    for env_id, found in gymnasium.registry.items():
        if found.namespace is None and found.name not in PLACEHOLDERS and is_registered(env_id):
            known = newest.get(found.name, found)
            newest[found.name] = max(known, found, key=lambda each: each.version or 0)
    return sorted(each.id for each in newest.values())


def load_plugins(env_id: str) -> None:
    """Register ids that live in other modules: `module:Id-v0`, and ale-py's own namespace."""
    module, separator, _ = env_id.rpartition(":")
    if separator:
        import_user_module(module, env_id)
    elif env_id.startswith("ALE/"):
        gymnasium.register_envs(importlib.import_module("ale_py"))


def factory(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    """The factory of a registered Gymnasium id.

    Raises:
      ConfigError: an optional package is missing, a keyword is unknown or a space is not supported.
      EnvironmentFault: the environment raised while it was made.
    """
    registered = gymnasium.spec(env_id.rpartition(":")[2])
    construct = partial(make_single, env_id, kwargs)
    try:
        single = construct_guarded(env_id, registered, construct, kwargs)
    except ImportError as error:
        raise ConfigError(f"{env_id}: {_missing_package(registered, error)}") from error
    try:
        spec = spaces.env_spec(env_id, single)
        if _has_same_native_form(registered, single, kwargs):
            native = partial(NativeVector, spec, env_id, kwargs)
            limited = partial(_limited, env_id, kwargs)
            return EnvFactory(env_id, spec, NativeVector.split_invariant, native, construct, limited)
    finally:
        close_quietly(single)
    return single_factory(env_id, construct)


def _limited(env_id: str, kwargs: dict[str, Any], bare: EnvFactory, limit: int) -> EnvFactory:
    """A vector form takes its limit when it is made: its slots cannot be told to reset."""
    return factory(env_id, {**kwargs, "max_episode_steps": shorter(limit, bare.spec.max_episode_steps)})


def construct_guarded(env_id: str, registered: Any, construct: Any, kwargs: dict[str, Any]) -> Any:
    """Make one environment; missing packages pass as ImportError, unknown keywords become one line."""
    try:
        return construct()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(str(error)) from error
    except (ImportError, ConfigError):
        raise
    except gymnasium.error.Error as error:
        raise ConfigError(f"{env_id}: {one_line(error)}; see gymnasium.make for what it accepts") from error
    except Exception as error:
        if kwargs and isinstance(error, TypeError) and "unexpected keyword" in str(error):
            entry = registered.entry_point
            names = accepted_names(entry if callable(entry) else load_env_creator(entry))
            raise refuse_keywords(env_id, kwargs, [*names, "max_episode_steps"]) from error
        raise construction_fault(env_id, 0, error) from error


def _has_same_native_form(registered: Any, single: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a vector form exists that is this environment: same spaces, and it resets on the next step.

    Some ids register a vector form that is another environment (ale-py's crops, stacks and clips); those do not pass.
    """
    if registered.vector_entry_point is None or not isinstance(single.observation_space, gymnasium.spaces.Box):
        return False
    if not isinstance(single.action_space, gymnasium.spaces.Box | gymnasium.spaces.Discrete):
        return False
    if registered.additional_wrappers or getattr(single.action_space, "start", 0) != 0:
        return False
    if single.observation_space.dtype != spaces.obs_spec(registered.id, single.observation_space).dtype:
        return False
    try:
        native = make_native(registered.id, kwargs, 1)
    except Exception:  # noqa: BLE001 - whatever its vector form cannot do, single environments can
        return False
    try:
        return (
            native.single_observation_space == single.observation_space
            and native.single_action_space == single.action_space
            and native.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP
        )
    finally:
        close_quietly(native)


def _missing_package(registered: Any, error: ImportError) -> str:
    entry = str(registered.entry_point)
    for word, package in (("mujoco", "shoal[mujoco]"), ("box2d", "gymnasium[box2d]"), ("phys2d", "gymnasium[jax]")):
        if word in entry:
            return f"its simulator is not installed; pip install '{package}'"
    return f"{one_line(error)}; install the package it names"
