# SPDX-License-Identifier: Apache-2.0
"""N single environments with Gymnasium's API, stepped one after another in this thread.

In: a constructor of one environment. Out: the host interface, every result checked. Prefer an environment's own
vector form where it has one; this adapter is for everything else.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs import checks, spaces
from shoal.envs.base import EnvFactory, describe_error, environment_fault
from shoal.envs.encoding import native_action, writer
from shoal.envs.masks import has_legal_action
from shoal.envs.wrappers.time_limit import limited_by_restart
from shoal.errors import ConfigError, EnvironmentFault
from shoal.processes import status
from shoal.processes.patience import TooLong, at_most
from shoal.trees import read_at, tree_items, tree_map
from shoal.types import ACTION_MASK, Discrete, EnvSpec, Steps

CLOSE_SECONDS = 3.0
"""after which an environment that is being closed is left to itself"""


class SingleVector:
    """The vector adapter over N single environments. Any subset of slots can be sent.

    Declared split-invariant: each environment gets its own seed, and a conforming one draws from nothing else.
    """

    split_invariant = True
    steps_apart = True

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
        self._action_space = self._envs[0].action_space
        self._seeds: list[int | None] = [None] * num_envs
        self._steps = [0] * num_envs
        self._pending: list[int] = []
        self._ended = [False] * num_envs
        self.write_into(
            Steps(
                np.arange(num_envs),
                tree_map(lambda leaf: np.zeros((num_envs, *leaf.shape), leaf.dtype), spec.obs),
                np.zeros(num_envs, np.float32),
                np.zeros(num_envs, bool),
                np.zeros(num_envs, bool),
                np.zeros(num_envs, bool),
            )
        )

    def write_into(self, rows: Steps) -> None:
        """Keep all rows [num_envs, ...] in these arrays from now on."""
        self._rows = rows
        space = self._envs[0].observation_space
        self._write_obs = [writer(space, read_at(rows.obs, (slot, ...))) for slot in range(self.num_envs)]
        self._floats = [(path, leaf) for path, leaf in tree_items(rows.obs) if leaf.dtype.kind == "f"]
        self._flat = [[leaf[slot].reshape(-1) for _, leaf in self._floats] for slot in range(self.num_envs)]

    def reset(self, seed: int) -> None:
        page = status.mine
        for slot in range(self.num_envs):
            self._seeds[slot] = seeds.derive(seed, "env", self._first_index + slot)
            self._steps[slot] = 0
            if page is not None:
                page.enter_env(self._first_index + slot, self._seeds[slot] or 0, 0)
            self._restart(slot, seed=self._seeds[slot])
        if page is not None:
            page.leave_env()
        self._check_batch(range(self.num_envs), "reset")
        self._pending = list(range(self.num_envs))

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        chosen = range(self.num_envs) if slots is None else [int(slot) for slot in slots]
        if len(action) != len(chosen):
            raise ValueError(f"{len(action)} actions for {len(chosen)} environments")
        if not set(chosen).isdisjoint(self._pending):
            raise ValueError("an environment was sent an action before its last row was received")
        self.advance(chosen, action)
        self._pending.extend(chosen)

    def advance(self, chosen: Sequence[int], action: np.ndarray) -> None:
        """Step these environments, for those who find the rows where `write_into` has put them and don't `recv`."""
        page = status.mine  # in a process of its own: where it is, should it never come back
        for slot, env_action in zip(chosen, self._own_actions(action), strict=True):
            self._steps[slot] += 1
            if page is not None:
                page.enter_env(self._first_index + slot, self._seeds[slot] or 0, self._steps[slot])
            if self._ended[slot]:
                self._restart(slot)
            else:
                self._step(slot, env_action)
        if page is not None:
            page.leave_env()
        self._check_batch(chosen, "step")

    def recv(self, min_ready: int | None = None) -> Steps:
        """All rows that wait: in one thread every environment that was sent an action has answered."""
        if not self._pending:
            raise ValueError("nothing to receive: send actions first")
        slots, self._pending = np.array(self._pending), []
        # copies: the next `send` writes into the rows while the receiver may still read these
        _, obs, *fields = self._rows
        return Steps(slots, read_at(obs, slots), *(field[slots] for field in fields))

    def restart(self, slots: np.ndarray) -> None:
        """Reset these slots in their next step."""
        for slot in slots:
            self._ended[slot] = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for env in self._envs:
            close_quietly(env)

    def _own_actions(self, action: np.ndarray) -> Any:
        """One action for each slot, in the form that the environments' own space has; plain numbers for Discrete."""
        if isinstance(self.spec.action, Discrete):
            first = int(self._action_space.start)
            return [number + first for number in action.tolist()] if first else action.tolist()
        return native_action(self.spec.action, self._action_space, np.asarray(action))

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
        self._write_obs[slot](obs)
        rows.reward[slot] = reward
        rows.terminated[slot] = terminated
        rows.truncated[slot] = truncated
        rows.valid[slot] = valid
        self._ended[slot] = terminated or truncated

    def _check_batch(self, slots: Sequence[int], call: str) -> None:
        """Ask the whole batch at once, and each environment only where something is wrong."""
        if len(slots) > 1 or not all(map(checks.are_finite, self._flat[slots[0]])):
            self._refuse_non_finite(slots, call)
        if self.spec.masked:
            stuck = ~has_legal_action(self._rows.obs[ACTION_MASK], self.spec.action)
            for slot in slots if stuck.any() else ():
                if stuck[slot] and not self._ended[slot]:
                    raise self._fault(slot, checks.no_legal_action(), call)

    def _refuse_non_finite(self, slots: Sequence[int], call: str) -> None:
        for entry, leaf in self._floats:
            if np.isfinite(leaf).all():
                continue
            for slot in slots:
                try:
                    checks.refuse_non_finite(leaf[slot], entry)
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
    """Close one environment; a close that fails or never returns must not hide what went wrong before it."""
    with contextlib.suppress(Exception, SystemExit, GeneratorExit, TooLong), at_most(CLOSE_SECONDS):
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
    build = partial(SingleVector, spec, construct)
    return EnvFactory(env_id, spec, SingleVector.split_invariant, build, construct, limited_by_restart)
