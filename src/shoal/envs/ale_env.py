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
    "num_threads": 0,
    "thread_affinity_offset": -1,
}
"""Every name `env_kwargs` may hold, with its value in shoal.

`noop_max`: up to so many frames of doing nothing open an episode. `max_num_frames_per_episode` counts frames, so
an episode is truncated after 27,000 agent steps. `num_threads` 0: ale-py chooses.
"""
LOWEST = {"noop_max": 0, "num_threads": 0, "thread_affinity_offset": -1}
"""Lowest values of the whole numbers among the settings, where that is not 1."""


class AleVector:
    """N games on ale-py's thread pool, stepped together, each with its own seed.

    ale-py's `batch_size` (return the first few that are ready) is not offered: in version 0.12.1, six games in
    batches of two on two threads lost one of the six for good in three of four runs (its issue 641 is open).
    """

    split_invariant = True
    steps_apart = False

    def __init__(self, spec: EnvSpec, game: str, settings: dict[str, Any], num_envs: int, first_index: int = 0):
        self.spec = spec
        self.num_envs = num_envs
        self.frames_per_s = 60 / settings["frameskip"]
        self._indices = range(first_index, first_index + num_envs)
        self._env: Any = AtariVectorEnv(game, num_envs, **settings)
        self._action_dtype = np.float32 if isinstance(spec.action, Box) else np.int32
        self._initial: Any = None
        self._sent = False
        self._ended = np.ones(num_envs, bool)

    def reset(self, seed: int) -> None:
        if self._sent:
            self._env.recv()
            self._sent = False
        self._initial, _ = self._env.reset(seed=np.array([seeds.derive(seed, "env", i) for i in self._indices]))
        # as if every episode had just ended: the first rows are reset rows
        self._ended = np.ones(self.num_envs, bool)

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Start the step of all games on ale-py's threads and return at once."""
        if self._sent or self._initial is not None:
            raise ValueError("an environment was sent an action before its last row was received")
        self._env.send(in_slot_order(np.asarray(action, self._action_dtype), slots, self.num_envs))
        self._sent = True

    def recv(self, min_ready: int | None = None) -> Steps:
        """One row of every game: they answer together."""
        if self._initial is not None:
            obs, self._initial = self._initial, None
            reward = np.zeros(self.num_envs, np.float32)
            terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        elif self._sent:
            self._sent = False
            obs, reward, terminated, truncated, _ = self._env.recv()
        else:
            raise ValueError("nothing to receive: send actions first")
        valid = ~self._ended
        self._ended = terminated | truncated
        return Steps(np.arange(self.num_envs), obs, reward.astype(np.float32), terminated, truncated, valid)

    def close(self) -> None:
        if self._sent:
            self._sent = False
            self._env.recv()
        self._env = None


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
    for name, value in kwargs.items():
        _check_value(env_id, name, value)
    settings = {**SETTINGS, **kwargs}
    try:
        probe = AtariVectorEnv(game, 1, **settings)
    except Exception as error:
        raise ConfigError(f"{env_id}: {one_line(error)}; check the values of env_kwargs") from error
    limit = settings["max_num_frames_per_episode"] // settings["frameskip"]
    obs = obs_spec(env_id, probe.single_observation_space)
    spec = EnvSpec(env_id, obs, action_spec(env_id, probe.single_action_space), limit)
    build = partial(AleVector, spec, game, settings)
    return EnvFactory(env_id, spec, AleVector.split_invariant, build, limited=partial(_limited, env_id, settings))


def _limited(env_id: str, settings: dict[str, Any], _: EnvFactory, limit: int) -> EnvFactory:
    """ale-py takes the limit when it is made, in frames: its slots cannot be told to reset."""
    frames = min(limit * settings["frameskip"], settings["max_num_frames_per_episode"])
    return factory(env_id, {**settings, "max_num_frames_per_episode": frames})


def _check_value(env_id: str, name: str, value: Any) -> None:
    """ale-py takes some impossible values without a word and crashes on others."""
    usual = SETTINGS[name]
    if isinstance(usual, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(usual, int):
        lowest = LOWEST.get(name, 1)
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
        wanted = f"a whole number of at least {lowest}"
    else:
        fits, wanted = isinstance(value, int | float) and 0 <= value <= 1, "a number within 0 .. 1"
    if not fits:
        raise ConfigError(f"{env_id}: {name} is {value!r}; give {wanted}")
