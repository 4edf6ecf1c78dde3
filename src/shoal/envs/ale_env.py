# SPDX-License-Identifier: Apache-2.0
"""Atari 2600 games on ale-py's own vector environment: `ale:pong`, `ale:ms_pacman`, ...

Observations are uint8 [4, 84, 84]: the last four grayscale screens, oldest first. Rewards are raw: clipping
belongs to the learner. The settings below follow Machado et al. 2018, "Revisiting the Arcade Learning
Environment", where they speak of it: sticky actions of 0.25 and no episode end when a life is lost. They differ
from ale-py's defaults in `repeat_action_probability` (0 there) and `reward_clipping` (on there).
"""

import difflib
from functools import partial
from typing import Any

import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

from shoal import seeds
from shoal.envs.base import EnvFactory, in_slot_order, one_line
from shoal.envs.modules import refuse_keywords
from shoal.envs.spaces import action_spec, obs_spec
from shoal.errors import ConfigError
from shoal.types import Box, EnvSpec, Steps

PREFIX = "ale:"
TWO_PLAYER_ONLY = ("combat", "joust", "maze_craze", "warlords")

SETTINGS: dict[str, Any] = {
    "repeat_action_probability": 0.25,
    "frameskip": 4,
    "maxpool": True,
    "stack_num": 4,
    "grayscale": True,
    "img_height": 84,
    "img_width": 84,
    "noop_max": 30,
    "use_fire_reset": True,
    "episodic_life": False,
    "reward_clipping": False,
    "max_num_frames_per_episode": 108_000,
    "full_action_space": False,
    "continuous": False,
    "continuous_action_threshold": 0.5,
    "batch_size": 0,
    "num_threads": 0,
    "thread_affinity_offset": -1,
}
"""Every name `env_kwargs` may hold, with its value in shoal.

`noop_max`: up to so many frames of doing nothing open an episode. `max_num_frames_per_episode` counts frames, so
an episode is truncated after 27,000 agent steps. `batch_size` below the number of environments makes `recv` return
the first so many that are ready (0: all). `num_threads` 0: ale-py chooses.
"""


class AleVector:
    """N games on ale-py's thread pool, each with its own seed.

    With `batch_size` below `num_envs`, `recv` returns that many rows and `send` answers exactly the slots received
    last. One environment's data does not depend on the others.
    """

    split_invariant = True

    def __init__(self, spec: EnvSpec, game: str, settings: dict[str, Any], num_envs: int, first_index: int = 0):
        if settings["batch_size"] > num_envs:
            batch = f"batch_size {settings['batch_size']}"
            raise ConfigError(f"{spec.id}: {batch} exceeds the actor's {num_envs} environments; lower it")
        self.spec = spec
        self.num_envs = num_envs
        self._first_index = first_index
        self._env: Any = AtariVectorEnv(game, num_envs, **settings)
        self._batch = self._env.batch_size
        self._action_dtype = np.float32 if isinstance(spec.action, Box) else np.int32
        self._initial: Any = None
        self._sent = False
        self._slots = np.arange(num_envs)
        self._ended = np.ones(num_envs, bool)

    def reset(self, seed: int) -> None:
        if self._sent:
            self._env.recv()
        indices = range(self._first_index, self._first_index + self.num_envs)
        self._initial = self._env.reset(seed=np.array([seeds.derive(seed, "env", i) for i in indices]))
        # as if every episode had just ended: the first rows are reset rows
        self._ended[:] = True
        self._sent = False

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        action = np.asarray(action, self._action_dtype)
        if self._batch == self.num_envs:
            action = in_slot_order(action, slots, self.num_envs)
        elif slots is not None:
            action = self._in_received_order(action, np.asarray(slots))
        self._env.send(action)
        self._sent = True

    def recv(self, min_ready: int | None = None) -> Steps:
        """All rows, or with `batch_size` the first so many that are ready, whatever `min_ready` asks."""
        if self._initial is not None:
            (obs, info), self._initial = self._initial, None
            reward = np.zeros(self._batch, np.float32)
            terminated, truncated = np.zeros(self._batch, bool), np.zeros(self._batch, bool)
        elif self._sent:
            obs, reward, terminated, truncated, info = self._env.recv()
            self._sent = False
        else:
            raise ValueError("nothing to receive: send actions first")
        slots = info["env_id"]
        valid = ~self._ended[slots]
        self._ended[slots] = terminated | truncated
        self._slots = slots
        return Steps(slots, obs, reward.astype(np.float32), terminated, truncated, valid)

    def close(self) -> None:
        self._env = None

    def _in_received_order(self, action: np.ndarray, slots: np.ndarray) -> np.ndarray:
        if not np.array_equal(np.sort(slots), np.sort(self._slots)) or len(action) != len(slots):
            raise ValueError(f"answer the slots received last, {self._slots}, not {slots}")
        by_slot = {int(slot): row for row, slot in enumerate(slots)}
        return action[[by_slot[int(slot)] for slot in self._slots]]


def games() -> list[str]:
    """Names of all one-player games."""
    return sorted(set(roms.get_all_rom_ids()) - set(TWO_PLAYER_ONLY))


def factory(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    """The factory of `ale:<game>`.

    Raises:
      ConfigError: the game, a setting or its value is unknown.
    """
    game = env_id.removeprefix(PREFIX)
    if game not in games():
        near = difflib.get_close_matches(game.lower(), games(), n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(PREFIX + name for name in near)}" if near else "see: shoal list envs"
        raise ConfigError(f"unknown game {env_id!r}; {hint}")
    if set(kwargs) - set(SETTINGS):
        raise refuse_keywords(env_id, kwargs, list(SETTINGS))
    settings = {**SETTINGS, **kwargs}
    try:
        probe = AtariVectorEnv(game, 1, **{**settings, "batch_size": 0})
    except Exception as error:
        raise ConfigError(f"{env_id}: {one_line(error)}; check the values of env_kwargs") from error
    limit = settings["max_num_frames_per_episode"] // settings["frameskip"]
    obs = obs_spec(env_id, probe.single_observation_space)
    spec = EnvSpec(env_id, obs, action_spec(env_id, probe.single_action_space), limit)
    return EnvFactory(env_id, spec, AleVector.split_invariant, partial(AleVector, spec, game, settings))
