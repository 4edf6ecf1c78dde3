# SPDX-License-Identifier: Apache-2.0
"""N single environments with Gymnasium's API, stepped one after another in this thread.

In: a constructor of one environment. Out: the host interface, every result checked. Prefer an environment's own
vector form where it has one; this adapter is for everything else.
"""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs import checks, spaces
from shoal.envs.base import EnvFactory, describe_error, environment_fault
from shoal.errors import ConfigError, EnvironmentFault
from shoal.types import Box, EnvSpec, Steps


class SingleVector:
    """The vector adapter over N single environments. Any subset of slots can be sent.

    Declared split-invariant: each environment gets its own seed, and a conforming one draws from nothing else.
    """

    split_invariant = True

    def __init__(self, spec: EnvSpec, construct: Callable[[], Any], num_envs: int, first_index: int = 0):
        self.spec = spec
        self.num_envs = num_envs
        self._first_index = first_index
        self._closed = False
        self._envs: list[Any] = []
        try:
            for i in range(num_envs):
                self._envs.append(construct_checked(spec.id, construct, first_index + i))
        except BaseException:
            self.close()
            raise
        if len({id(env) for env in self._envs}) < num_envs:
            raise ConfigError(f"{spec.id}: returned the same object twice; return a new environment on every call")
        self._obs_start = _start(self._envs[0].observation_space)
        self._action_start = _start(self._envs[0].action_space) or 0
        self._action_dtype = self._envs[0].action_space.dtype
        self._seeds: list[int | None] = [None] * num_envs
        self._steps = [0] * num_envs
        self._pending: list[int] = []
        self._ended = [False] * num_envs
        self._rows = Steps(
            np.arange(num_envs),
            np.zeros((num_envs, *spec.obs.shape), spec.obs.dtype),
            np.zeros(num_envs, np.float32),
            np.zeros(num_envs, bool),
            np.zeros(num_envs, bool),
            np.zeros(num_envs, bool),
        )
        self._obs_rows = [self._rows.obs[slot, ...] for slot in range(num_envs)]

    def reset(self, seed: int) -> None:
        for slot in range(self.num_envs):
            self._seeds[slot] = seeds.derive(seed, "env", self._first_index + slot)
            self._steps[slot] = 0
            self._restart(slot, seed=self._seeds[slot])
        self._refuse_non_finite(range(self.num_envs), "reset")
        self._pending = list(range(self.num_envs))

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        chosen = range(self.num_envs) if slots is None else [int(slot) for slot in slots]
        if len(action) != len(chosen):
            raise ValueError(f"{len(action)} actions for {len(chosen)} environments")
        if not set(chosen).isdisjoint(self._pending):
            raise ValueError("an environment was sent an action before its last row was received")
        for slot, env_action in zip(chosen, self._native(action), strict=True):
            self._steps[slot] += 1
            if self._ended[slot]:
                self._restart(slot)
            else:
                self._step(slot, env_action)
        self._refuse_non_finite(chosen, "step")
        self._pending.extend(chosen)

    def recv(self, min_ready: int | None = None) -> Steps:
        """All rows that wait: in one thread every environment that was sent an action has answered."""
        if not self._pending:
            raise ValueError("nothing to receive: send actions first")
        slots, self._pending = np.array(self._pending), []
        # copies: the next `send` writes into the rows while the receiver may still read these
        return Steps(*(field[slots] for field in self._rows))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for env in self._envs:
            close_quietly(env)

    def _native(self, action: np.ndarray) -> Any:
        """Actions in the form the environment's own space has."""
        if isinstance(self.spec.action, Box):
            return np.asarray(action).astype(self._action_dtype)
        return (np.asarray(action) + self._action_start).tolist()

    def _step(self, slot: int, action: Any) -> None:
        try:
            result = self._envs[slot].step(action)
            obs, reward, terminated, truncated = checks.take_step(result)
            self._write(slot, obs, reward, terminated, truncated, valid=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._fault(slot, error, "step") from error

    def _restart(self, slot: int, **seed: Any) -> None:
        try:
            obs = checks.take_reset(self._envs[slot].reset(**seed))
            self._write(slot, obs, 0.0, False, False, valid=False)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._fault(slot, error, "reset") from error

    def _write(self, slot: int, obs: Any, reward: float, terminated: bool, truncated: bool, valid: bool) -> None:
        rows = self._rows
        if self._obs_start is None:
            checks.write_box(self._obs_rows[slot], obs)
        else:
            checks.write_one_hot(self._obs_rows[slot], obs, self._obs_start)
        rows.reward[slot] = reward
        rows.terminated[slot] = terminated
        rows.truncated[slot] = truncated
        rows.valid[slot] = valid
        self._ended[slot] = terminated or truncated

    def _refuse_non_finite(self, slots: Iterable[int], call: str) -> None:
        """Ask the whole batch at once, and each environment only where something is wrong."""
        obs = self._rows.obs
        if obs.dtype.kind != "f" or np.isfinite(obs).all():
            return
        for slot in slots:
            try:
                checks.refuse_non_finite(self._obs_rows[slot])
            except checks.Breach as breach:
                raise self._fault(slot, breach, call) from breach

    def _fault(self, slot: int, error: BaseException, call: str) -> EnvironmentFault:
        what, remedy = f"raised {describe_error(error)} in {call}", f"fix the environment's {call}"
        if isinstance(error, checks.Breach):
            what, remedy = error.what, error.remedy
        index = self._first_index + slot
        return environment_fault(self.spec.id, index, self._seeds[slot], self._steps[slot], what, remedy)


def construct_checked(env_id: str, construct: Callable[[], Any], index: int) -> Any:
    """One environment, or the one line that says why it could not be made."""
    try:
        return construct()
    except (KeyboardInterrupt, ConfigError, EnvironmentFault):
        raise
    except BaseException as error:
        raise construction_fault(env_id, index, error) from error


def construction_fault(env_id: str, index: int, error: BaseException) -> EnvironmentFault:
    """The one line for a constructor that raised."""
    what = f"raised {describe_error(error)} when it was made"
    return EnvironmentFault(f"{env_id}: environment {index} {what}; fix the environment's constructor")


def close_quietly(env: Any) -> None:
    """Close one environment; a close that fails must not hide what went wrong before it."""
    with contextlib.suppress(Exception):
        env.close()


def probe(env_id: str, construct: Callable[[], Any]) -> EnvSpec:
    """The spec of an environment, learnt by making one and closing it."""
    env = construct_checked(env_id, construct, 0)
    try:
        return spaces.env_spec(env_id, env)
    finally:
        close_quietly(env)


def single_factory(env_id: str, construct: Callable[[], Any]) -> EnvFactory:
    """The factory over any constructor of one Gymnasium-style environment; it may take further settings."""
    spec = probe(env_id, construct)
    return EnvFactory(env_id, spec, SingleVector.split_invariant, partial(SingleVector, spec, construct), construct)


def _start(space: Any) -> int | None:
    start = getattr(space, "start", None)
    return None if start is None else int(start)
