# SPDX-License-Identifier: Apache-2.0
"""EnvPool's environments in C++: `envpool:Pong-v5`, `envpool:CartPole-v1`, `envpool:Ant-v5`, ...

Many environments are stepped by EnvPool's own threads. Each has its own seed and resets on the step after an episode
ends; both were found by experiment with version 1.2 and are held by the contract suite. Atari ids get the settings of
`ale:` (sticky actions of 0.25, no reward clipping, the full game) in place of EnvPool's own. Weng et al. 2022,
"EnvPool: A Highly Parallel Reinforcement Learning Environment Execution Engine".
"""

import difflib
import importlib
import importlib.util
import re
import warnings
from functools import partial
from typing import Any

import numpy as np

from shoal import seeds
from shoal.envs.base import EnvFactory, describe_error, in_slot_order, one_line
from shoal.envs.checks import no_legal_action
from shoal.envs.encoding import batch_encoder, native_action
from shoal.envs.masks import has_legal_action
from shoal.envs.modules import refuse_keywords
from shoal.envs.spaces import spec_of_spaces
from shoal.envs.wrappers.time_limit import shorter
from shoal.errors import ConfigError, EnvironmentFault
from shoal.trees import read_at, tree_map
from shoal.types import ACTION_MASK, EnvSpec, Steps

PREFIX = "envpool:"
ATARI: dict[str, Any] = {
    "repeat_action_probability": 0.25,
    "frame_skip": 4,
    "stack_num": 4,
    "gray_scale": True,
    "img_height": 84,
    "img_width": 84,
    "noop_max": 30,
    "use_fire_reset": True,
    "episodic_life": False,
    "reward_clip": False,
    "max_episode_steps": 27_000,
    "full_action_space": False,
}
"""Settings of Atari ids, as those of `ale:`. EnvPool's own differ in `repeat_action_probability`, which is 0."""
OURS = ("num_envs", "seed", "env_seed", "max_num_players", "base_path", "gym_reset_return_info", "task")
"""EnvPool's settings that `env_kwargs` may not change: they belong to the adapter or to the id"""
LOWEST = {"noop_max": 0, "num_threads": 0, "frame_skip": 1, "frame_stack": 1, "stack_num": 1, "max_episode_steps": 1,
          "img_height": 1, "img_width": 1, "batch_size": 1}  # fmt: skip
"""lowest values of whole numbers that EnvPool would take without a word"""
ENDLESS = 2**31 - 1
"""EnvPool's limit of environments that have none"""
SHOWN = ("atari", "box2d", "classic_control", "mujoco.gym", "toy_text")
"""families listed id by id; of the others their sizes are told"""

warnings.filterwarnings("ignore", message=".*precision lowered by casting")  # EnvPool's bounds, made by Gymnasium


class EnvpoolVector:
    """N environments on EnvPool's threads, each with its own seed.

    They step together, unless the setting `batch_size` says how many answer at a time: then `recv` takes the first
    that are ready, in multiples of it, and any slots can be sent. With 1 every way of sending works; with more, what
    is under way must stay a multiple of `batch_size`.
    """

    split_invariant = True

    def __init__(self, spec: EnvSpec, task: str, settings: dict[str, Any], num_envs: int, first_index: int = 0):
        self.spec = spec
        self.num_envs = num_envs
        self._task, self._settings = task, settings
        self._batch = settings.get("batch_size", num_envs)
        self.steps_apart = self._batch == 1
        if num_envs % self._batch:
            reason = f"{num_envs} environments are no multiple of batch_size={self._batch}"
            raise ConfigError(f"{spec.id}: {reason}; give a divisor of their number, or leave it out")
        if "frame_skip" in settings and spec.shows_frames:
            self.frames_per_s = 60 / settings["frame_skip"]
        self._indices = range(first_index, first_index + num_envs)
        self._seed = 0
        self._pool: Any = None
        self._encode: Any = None
        self._action_space: Any = None
        self._under_way = np.zeros(num_envs, bool)
        self._ended = np.ones(num_envs, bool)

    def reset(self, seed: int) -> None:
        """Make the pool anew: EnvPool takes seeds then only."""
        self._seed = seed
        self.close()
        own = [seeds.derive(seed, "env", i) for i in self._indices]
        try:
            self._pool = make_pool(
                self._task, self.num_envs, {**self._settings, "batch_size": self._batch, "seed": own}
            )
            self._pool.async_reset()
        except Exception as error:
            raise self._fault(f"raised {describe_error(error)} in reset", "check env_kwargs") from error
        made = self._pool.spec  # whose spaces are made anew each time they are asked for
        self._encode = batch_encoder(made.gymnasium_observation_space, self.spec.obs)
        self._action_space = made.gymnasium_action_space
        self._under_way[:] = True
        self._ended[:] = True

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Start the steps on EnvPool's threads and return at once."""
        if self._batch == self.num_envs:
            action, chosen = in_slot_order(action, slots, self.num_envs), np.arange(self.num_envs)
        else:
            chosen = np.arange(self.num_envs) if slots is None else np.asarray(slots)
        if len(action) != len(chosen):
            raise ValueError(f"{len(action)} actions for {len(chosen)} environments")
        if self._under_way[chosen].any():
            raise ValueError("an environment was sent an action before its last row was received")
        native = native_action(self.spec.action, self._action_space, action)
        try:
            self._pool.send(native, chosen.astype(np.int32))
        except Exception as error:
            raise self._fault(f"raised {describe_error(error)} in step", "check the actions") from error
        self._under_way[chosen] = True

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of the first environments that are ready, in batches: at least `min_ready`, or all under way."""
        flying = int(self._under_way.sum())
        if not flying:
            raise ValueError("nothing to receive: send actions first")
        wanted = flying if min_ready is None else min(min_ready, flying)
        batches, got = [], 0
        while got < wanted:
            if flying - got < self._batch:
                raise ValueError(f"{flying - got} environments under way never fill a batch of {self._batch}")
            batches.append(self._receive())
            got += self._batch
        if len(batches) == 1:
            return batches[0]
        joined = Steps(
            *(tree_map(lambda *parts: np.concatenate(parts), *field) for field in zip(*batches, strict=True))
        )
        return read_at(joined, np.argsort(joined.slots))

    def close(self) -> None:
        self._pool = None  # its threads end with it, steps under way included
        self._under_way[:] = False

    def _receive(self) -> Steps:
        """One batch from the pool."""
        try:
            obs, reward, terminated, truncated, info = self._pool.recv()
        except Exception as error:
            raise self._fault(f"raised {describe_error(error)} in step", "check env_kwargs") from error
        slots = info["env_id"]
        valid = ~self._ended[slots]
        self._ended[slots] = terminated | truncated
        self._under_way[slots] = False
        encoded = self._encode(obs)
        if self.spec.masked:
            stuck = ~has_legal_action(encoded[ACTION_MASK], self.spec.action) & ~self._ended[slots]
            if stuck.any():
                breach = no_legal_action()
                raise self._fault(breach.what, breach.remedy, self._indices[int(slots[stuck.argmax()])])
        return Steps(slots, encoded, reward.astype(np.float32, copy=False), terminated, truncated, valid)

    def _fault(self, what: str, remedy: str, index: int | None = None) -> EnvironmentFault:
        among = f"environments {self._indices[0]} .. {self._indices[-1]}" if index is None else f"environment {index}"
        return EnvironmentFault(f"{self.spec.id}: {among} (seed {self._seed}) {what}; {remedy}")


def make_pool(task: str, num_envs: int, settings: dict[str, Any]) -> Any:
    """EnvPool's own object for an id without prefix."""
    return load_envpool(task).make(task, env_type="gymnasium", num_envs=num_envs, **settings)


def load_envpool(task: str) -> Any:
    """The package, which is an extra.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("envpool")
    except ImportError as error:
        reason = "EnvPool is not installed" if not is_installed() else f"EnvPool cannot be loaded ({one_line(error)})"
        raise ConfigError(f"{PREFIX}{task}: {reason}; pip install 'shoal[envpool]'") from error


def is_installed() -> bool:
    """Whether the package is there, without loading it."""
    return importlib.util.find_spec("envpool") is not None


def families() -> dict[str, list[str]]:
    """Ids without prefix by family, the newest version of each: {"atari": ["Adventure-v5", ...], ...}."""
    load_envpool("")
    specs = importlib.import_module("envpool.registration").registry.specs
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for task, (module, *_) in specs.items():
        name, _, version = task.rpartition("-v")
        newest = found.setdefault(module.removeprefix("envpool."), {})
        newest[name] = max(newest.get(name, (-1, "")), (int(version), task))
    return {family: sorted(task for _, task in newest.values()) for family, newest in sorted(found.items())}


def listed() -> dict[str, list[str]]:
    """Ids by source for `shoal list envs`; nothing where EnvPool is not installed."""
    if not is_installed():
        return {}
    known = families()
    lists = {f"EnvPool {family}": [PREFIX + task for task in known[family]] for family in SHOWN if family in known}
    more = [
        f"{PREFIX}{tasks[0]} and {len(tasks) - 1} more of {name}" for name, tasks in known.items() if name not in SHOWN
    ]
    return {**lists, "EnvPool, other families": more}


def factory(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    """The factory of `envpool:<id>`.

    Raises:
      ConfigError: the package is missing, the id, a setting or its value is unknown, a space is not supported, or
        several play.
    """
    task = env_id.removeprefix(PREFIX)
    envpool = load_envpool(task)
    specs = importlib.import_module("envpool.registration").registry.specs
    if task not in specs:
        raise ConfigError(f"unknown environment {env_id!r}; {_nearest(task, list(specs))}")
    try:
        usual = envpool.make_spec(task).config._asdict()
    except Exception as error:
        raise ConfigError(f"{env_id}: {one_line(error)}; install what it needs") from error
    if usual["max_num_players"] > 1:
        raise ConfigError(
            f"{env_id}: is a game of {usual['max_num_players']} players; choose an environment for one agent"
        )
    valid = {name: value for name, value in usual.items() if name not in OURS}
    if set(kwargs) - set(valid):
        raise refuse_keywords(env_id, kwargs, list(valid))
    for name, value in kwargs.items():
        _check_value(env_id, name, value, valid[name])
    settings = {**(ATARI if specs[task][0] == "envpool.atari" else {}), **kwargs}
    try:
        pool = make_pool(task, settings.get("batch_size", 1), settings)
        pool.reset()
    except Exception as error:
        raise ConfigError(f"{env_id}: {one_line(error)}; check the values of env_kwargs") from error
    limit = pool.config["max_episode_steps"]
    obs_space, action_space = pool.spec.gymnasium_observation_space, pool.spec.gymnasium_action_space
    spec = spec_of_spaces(env_id, obs_space, action_space, None if limit == ENDLESS else limit)
    build = partial(EnvpoolVector, spec, task, settings)
    return EnvFactory(env_id, spec, EnvpoolVector.split_invariant, build, limited=partial(_limited, env_id, kwargs))


def _limited(env_id: str, kwargs: dict[str, Any], bare: EnvFactory, limit: int) -> EnvFactory:
    """EnvPool takes the limit when it is made: slots cannot be told to reset while it counts their steps itself."""
    return factory(env_id, {**kwargs, "max_episode_steps": shorter(limit, bare.spec.max_episode_steps)})


def _check_value(env_id: str, name: str, value: Any, usual: Any) -> None:
    """EnvPool names no setting when it refuses a value, and takes some that crash it."""
    if isinstance(usual, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(usual, int):
        lowest = LOWEST.get(name, -(2**31))
        fits = isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= ENDLESS
        wanted = f"a whole number of at least {lowest}" if name in LOWEST else "a whole number"
    elif isinstance(usual, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
        wanted = "a number"
    else:
        fits, wanted = isinstance(value, type(usual)), f"a {type(usual).__name__}"
    if not fits:
        raise ConfigError(f"{env_id}: {name} is {value!r}; give {wanted}")


def _nearest(task: str, ids: list[str]) -> str:
    """The ids most like the wanted one, whatever their version and case."""
    plain = {re.sub(r"-v\d+$", "", each).lower(): PREFIX + each for each in ids}
    near = difflib.get_close_matches(re.sub(r"-v\d+$", "", task).lower(), list(plain), n=3, cutoff=0.5)
    return f"nearest: {', '.join(plain[name] for name in near)}" if near else "see: shoal list envs"
