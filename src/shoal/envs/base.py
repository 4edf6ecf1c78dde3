# SPDX-License-Identifier: Apache-2.0
"""The host interface of every environment adapter, and the record that makes adapters.

In: actions, for all environments or for some slots. Out: `Steps`, one row per environment that answered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from shoal.errors import ConfigError, EnvironmentFault
from shoal.types import EnvSpec, Steps

MESSAGE_LIMIT = 300


class VectorEnv(Protocol):
    """N environments, stepped together or in parts.

    Episodes reset on the step after they end. Where a row says `terminated` or `truncated`, its `obs` is the final
    observation of that episode. The next row of the same slot only resets: its action is ignored, its reward is 0,
    it ends nothing, its `obs` opens the next episode and its `valid` is False. The rows after `reset` look the same.

    An environment that was lost with its process gives a row that is truncated and not valid: nothing is known of that
    step, its `obs` is the last one that is, and its next row resets.

    Observations are trees, as `spec.obs` says: an array [N, ...], or dicts and tuples of arrays. Where the spec is
    masked, every row whose episode goes on has a legal action.

    Actions are indices 0 .. n-1 for `Discrete`, one such index for each choice for `MultiDiscrete`, and within the
    environment's own bounds for `Box`: who acts on the unit scale applies `Box.to_env` before sending.
    """

    spec: EnvSpec
    num_envs: int
    split_invariant: bool
    """Whether 8 environments give the same data as twice 4 with `first_index` 0 and 4."""
    steps_apart: bool
    """Whether any of the environments can be sent an action without the others."""

    def reset(self, seed: int) -> None:
        """Start all environments anew; their first rows wait for `recv`.

        What environment i draws depends on `seed` and `first_index + i` alone; single ones are seeded with
        `derive(seed, "env", first_index + i)`. Where one generator serves all of them, it starts at
        `derive(seed, "env", first_index)` and `split_invariant` is False.
        """
        ...

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Hand one action per slot to the environments; without `slots`, to all of them in order.

        Raises:
          ValueError: this adapter steps all environments together and got only some.
        """
        ...

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of environments that have answered: at least `min_ready` of them, or all that were sent an action.

        Rows come in slot order when all environments were sent an action without naming slots. Arrays are the
        receiver's until its next `recv`.
        """
        ...

    def close(self) -> None:
        """Free what the environments hold. Closing twice is harmless."""
        ...


class RestartableEnv(VectorEnv, Protocol):
    """A VectorEnv whose episodes can be ended from outside."""

    def restart(self, slots: np.ndarray) -> None:
        """Reset these slots in their next step, as if the rows just received had ended their episodes."""
        ...


@dataclass(frozen=True)
class EnvFactory:
    """A resolved environment: what it takes and gives, and how to make N of it.

    For ids it holds text and settings only, so it pickles and can be made again in another process.
    """

    name: str
    spec: EnvSpec
    split_invariant: bool
    build: Callable[[int, int], Any]
    """build(num_envs, first_index) -> VectorEnv"""
    construct: Callable[..., Any] | None = None
    """construct(**settings) -> one bare environment with Gymnasium's API; None where there is no such form"""
    limited: Callable[["EnvFactory", int], "EnvFactory"] | None = None
    """limited(factory, limit) -> the factory of environments whose episodes last at most `limit` agent steps; a factory
    without wrappers"""
    wrappers: tuple[Callable[[Any], Any], ...] = ()
    """each takes a VectorEnv and gives another one around it"""
    traced: bool = False
    """whether its environments are written in JAX, so that rollouts can compile them together with the policy"""
    origin: tuple[str, dict[str, Any]] | None = None
    """id and settings from which any process resolves the bare environment again; None for a Python object that no
    name leads to"""

    def make(self, num_envs: int, first_index: int = 0) -> VectorEnv:
        """N environments whose indices, counted over all actors, start at `first_index`."""
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        return self.wrap(self.build(num_envs, first_index))

    def wrap(self, env: VectorEnv) -> VectorEnv:
        """A bare environment with all of the factory's wrappers around it."""
        for wrapper in self.wrappers:
            env = wrapper(env)
        return env

    def around(self, wrapper: Callable[[Any], Any], spec: EnvSpec) -> "EnvFactory":
        """This factory with one more wrapper outside of all others, and the spec that it leads to."""
        return replace(self, spec=spec, wrappers=(*self.wrappers, wrapper), traced=False)


def one_line(text: object) -> str:
    """Text on one line, cut to a readable length."""
    line = " ".join(str(text).split())
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 3] + "..."


def describe_error(error: BaseException) -> str:
    """The exception's type and message on one line."""
    try:
        message = one_line(error)
    except Exception:  # noqa: BLE001 - a user's exception may fail to say what it is
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def environment_fault(name: str, index: int, seed: object, step: int, what: str, remedy: str) -> EnvironmentFault:
    """The one line a user sees when an environment breaks its own declaration.

    Args:
      index: the environment's index, counted over all actors.
      seed: what this environment was seeded with.
      step: calls of `step` since that seed, the faulty one included.
    """
    return EnvironmentFault(f"{name}: environment {index} (seed {seed}, step {step}) {one_line(what)}; {remedy}")


def in_slot_order(action: np.ndarray, slots: np.ndarray | None, num_envs: int) -> np.ndarray:
    """Actions [num_envs, ...] sorted by slot, for adapters that step all environments together."""
    if slots is None:
        if len(action) != num_envs:
            raise ValueError(f"{len(action)} actions for {num_envs} environments")
        return action
    slots = np.asarray(slots)
    if len(action) != num_envs or not np.array_equal(np.sort(slots), np.arange(num_envs)):
        raise ValueError(f"all {num_envs} environments step together: send one action for each, got slots {slots}")
    ordered = np.empty_like(action)
    ordered[slots] = action
    return ordered


def refuse_together(env: VectorEnv, setting: str) -> None:
    """Raises ConfigError where a setting needs environments that can be stepped apart, and these can't."""
    if not env.steps_apart and env.num_envs > 1:
        raise _together(env.spec.id, setting)


def refuse_factory_together(factory: EnvFactory, setting: str) -> None:
    """The same for several environments, before any are made; passes where only they could tell."""
    if factory.traced or not getattr(getattr(factory.build, "func", factory.build), "steps_apart", True):
        raise _together(factory.name, setting)


def _together(name: str, setting: str) -> ConfigError:
    reason = "its environments are stepped all together, and this needs one at a time"
    remedy = "leave it out, or give each environment a worker of its own (env_workers = envs_per_actor)"
    return ConfigError(f"{setting} is not for {name}: {reason}; {remedy}")
