# SPDX-License-Identifier: Apache-2.0
"""Impossible settings are refused in one line that names the field, and presets fit their environments."""

import dataclasses

import numpy as np
import pytest

from architectures.small import NAMES, REAL, REPLAY
from shoal.architectures import presets, registry
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, Discrete, EnvSpec

REFUSED = [
    ("a2c", {"env_steps": 0}, "env_steps"),
    ("a2c", {"num_actors": -1}, "num_actors"),
    ("a2c", {"discount": 1.5}, "discount"),
    ("a2c", {"learning_rate": float("nan")}, "learning_rate"),
    ("a2c", {"learning_rate": float("inf")}, "learning_rate"),
    ("a2c", {"reward_clip": 0.0}, "reward_clip"),
    ("a2c", {"seed": -1}, "seed"),
    ("a2c", {"frame_stack": 0}, "frame_stack=0 must be above 0"),
    ("a2c", {"time_limit": 0}, "time_limit=0 must be above 0, or none"),
    ("a2c", {"mask_from_info": 1}, "mask_from_info=1 must be true or false"),
    ("ppo", {"minibatches": 10_000}, "minibatches"),
    ("ppo", {"clip": 0.0}, "clip"),
    ("impala", {"queue_slots": 0}, "queue_slots"),
    ("appo", {"max_lag": -1}, "max_lag"),
    ("appo", {"minibatches": 10_000}, "minibatches=10000 is more than the 1024 rows"),
    ("appo", {"clip": 0.0}, "clip"),
    ("seed", {"inference_deadline_s": 0.0}, "inference_deadline_s=0.0 must be above 0"),
    ("seed", {"inference_batch": 17}, "inference_batch=17 must lie in [0, 16]"),
    ("seed", {"inference_batch": -1}, "inference_batch"),
    ("seed", {"reset": "wait"}, "reset='wait'"),
    ("pg", {"step": "g"}, "use a or b or c or d or e or f"),
    ("pg", {"episode_limit": 0}, "episode_limit=0 must be above 0"),
    ("pg", {"critic_rate": 0.0}, "critic_rate"),
    ("pg", {"normalise_advantage": True}, "normalise_advantage needs a learner that sees all rows"),
    ("pg", {"normalise_obs": True}, "normalise_obs needs"),
    ("pg", {"decorrelate": 3}, "decorrelate is not for pg"),
    ("pg", {"sampler": "async"}, "sampler='async' is not for this architecture"),
    ("pg", {"reset": "wait"}, "reset='wait'"),
    ("seed", {"sampler": "serial"}, "sampler='serial' is not for this architecture"),
    ("impala", {"max_lag": 2, "forced_lag": 5}, "max_lag"),
    ("a3c", {"normalise_obs": True}, "normalise_obs needs a learner that sees all batches"),
    ("a3c", {"normalise_reward": True}, "normalise_reward needs"),
    ("a3c", {"agent": "two_step_q"}, "use actor_critic or one_step_q or n_step_q or one_step_sarsa"),
    ("a3c", {"target_interval": 0}, "target_interval=0 must be above 0"),
    ("a3c", {"pushes_per_visit": 0}, "pushes_per_visit=0"),
    ("a3c", {"entropy_spread": 0.5}, "entropy_spread=0.5 must be 1 or more"),
    ("a3c", {"optimiser": "lamb"}, "use adam or rmsprop or momentum or sgd"),
    ("a2c", {"env_steps": 1e5}, "env_steps=100000.0 must be a whole number"),
    ("a2c", {"num_actors": True}, "num_actors=True"),
    ("a2c", {"learning_rate": "fast"}, "learning_rate='fast' must be a number"),
    ("a2c", {"reward_clip": "x"}, "reward_clip='x'"),
    ("a2c", {"normalise_advantage": 1}, "normalise_advantage=1 must be true or false"),
    ("a2c", {"optimiser": "adma"}, "use adam or rmsprop or momentum or sgd"),
    ("impala", {"correction": None}, "use vtrace or none"),
    ("ppo", {"epochs": None}, "epochs=None"),
]


@pytest.mark.parametrize(("architecture", "fields", "named"), REFUSED)
def test_impossible_settings_are_one_line(architecture, fields, named):
    with pytest.raises(ConfigError) as fault:
        registry.load(architecture).Config(**fields)
    assert named in str(fault.value)
    assert "\n" not in str(fault.value)


def test_numbers_of_other_types_are_numbers():
    config = registry.load("ppo").Config(env_steps=np.int64(100), learning_rate=np.float32(0.5), clip=1, reward_clip=2)
    assert (config.env_steps, config.reward_clip) == (100, 2)


def test_unknown_architectures_name_the_nearest():
    with pytest.raises(ConfigError, match="impala"):
        registry.load("impalla")
    with pytest.raises(ConfigError, match="does not work yet"):
        registry.load("alphazero")


@pytest.mark.parametrize("architecture", [name for name in NAMES if name not in REAL])
def test_presets_follow_the_form_of_the_environment(architecture):
    frames = EnvSpec("frames", ArraySpec((4, 84, 84), "uint8"), Discrete(6))
    control = EnvSpec("control", ArraySpec((3,), "float32"), Box((1,), (-2.0,), (2.0,)))
    long = EnvSpec("long", ArraySpec((4,), "float32"), Discrete(2), 500)
    short = EnvSpec("short", ArraySpec((4,), "float32"), Discrete(2), 10)
    assert presets.preset(architecture, frames).reward_clip == (None if architecture == "r2d2" else 1.0)  # it rescales
    assert architecture in REPLAY or presets.preset(architecture, control).entropy_cost == 0.0
    assert presets.preset(architecture, long).reward_scale < presets.preset(architecture, short).reward_scale


@pytest.mark.parametrize("architecture", [name for name in NAMES if name not in REPLAY])
@pytest.mark.parametrize(
    ("env_id", "is_body"),
    [
        ("HalfCheetah-v5", True), ("Hopper-v4", True), ("envpool:Ant-v4", True), ("InvertedDoublePendulum-v5", True),
        ("Pendulum-v1", False), ("MyHopper-v5", False), ("own:Hopper", False),
    ],
)  # fmt: skip
def test_bodies_of_mujoco_have_their_numbers_normalised(architecture, env_id, is_body):
    spec = EnvSpec(env_id, ArraySpec((17,), "float32"), Box((6,), (-1.0,) * 6, (1.0,) * 6), 1000)
    config = presets.preset(architecture, spec)
    assert config.normalise_obs == config.normalise_reward == (is_body and architecture not in ("a3c", "pg"))
    assert config.discount == (0.99 if is_body else 0.9)


@pytest.mark.parametrize("architecture", [name for name in NAMES if name not in REAL])
def test_games_of_minatar_are_stepped_many_at_once(architecture):
    presets_of = [presets.preset(architecture, EnvSpec(name, ArraySpec((10, 10, 4), "bool"), Discrete(3), 1000))
                  for name in ("gymnax:Breakout-MinAtar", "own:Breakout")]  # fmt: skip
    games, other = presets_of
    assert games.envs_per_actor > other.envs_per_actor
    assert games.reward_scale == 1.0 > other.reward_scale


@pytest.mark.parametrize("architecture", NAMES)
def test_configs_are_frozen_and_explain_every_field(architecture):
    config = registry.load(architecture).Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
