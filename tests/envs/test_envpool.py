# SPDX-License-Identifier: Apache-2.0
"""EnvPool ids: the same games with shoal's settings, first-ready batches, and refusals in one line."""

import sys

import numpy as np
import pytest

from envs.recording import Case, actions, factory_of, record, same
from envs.wrappers.test_wrappers import ages
from shoal import envs
from shoal.envs.ale_env import SETTINGS
from shoal.envs.wrappers import wrapped
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, Discrete, EnvSpec

envpool = pytest.importorskip("envpool")


@pytest.mark.parametrize(
    ("env", "spec"),
    [
        ("envpool:CartPole-v1", EnvSpec("", ArraySpec((4,), "float32"), Discrete(2), 500)),
        ("envpool:Pong-v5", EnvSpec("", ArraySpec((4, 84, 84), "uint8"), Discrete(6), 27_000)),
        ("envpool:HalfCheetah-v5", EnvSpec("", ArraySpec((17,), "float32"), Box((6,), (-1.0,) * 6, (1.0,) * 6), 1000)),
        ("envpool:Catch-v0", EnvSpec("", ArraySpec((10, 5), "float32"), Discrete(3), None)),
        ("envpool:Taxi-v3", EnvSpec("", ArraySpec((500,), "float32"), Discrete(6), 200)),
        (
            "envpool:Game2048-v1",
            EnvSpec(
                "", {"action_mask": ArraySpec((4,), "bool"), "board": ArraySpec((4, 4), "int32")}, Discrete(4), 1000
            ),
        ),
    ],
)
def test_spec(env, spec):
    found = envs.resolve(env).spec
    assert found.id == env
    assert (found.obs, found.action, found.max_episode_steps) == (spec.obs, spec.action, spec.max_episode_steps)


def test_atari_has_the_settings_of_ale_ids():
    env = envs.resolve("envpool:Pong-v5").make(1)
    env.reset(0)
    found = env._pool.config
    for name in ("repeat_action_probability", "noop_max", "use_fire_reset", "episodic_life", "full_action_space"):
        assert found[name] == SETTINGS[name], name
    same_thing = {"frame_skip": "frameskip", "gray_scale": "grayscale", "reward_clip": "reward_clipping"}
    for theirs, ours in same_thing.items():
        assert found[theirs] == SETTINGS[ours]
    assert found["max_episode_steps"] == SETTINGS["max_num_frames_per_episode"] // SETTINGS["frameskip"]
    assert env.frames_per_s == 15


def test_rewards_are_raw():
    rows = record(Case("envpool:MsPacman-v5", {"img_height": 20, "img_width": 20}, steps=90), num_envs=2)
    assert rows.reward.max() >= 10


def test_cartpole_is_gymnasium_s():
    """Every valid row follows from the row before by Gymnasium's own step."""
    import gymnasium

    rows = record(Case("envpool:CartPole-v1", {"max_episode_steps": 30}, steps=60))
    single = gymnasium.make("CartPole-v1").unwrapped
    single.reset(seed=0)
    env = envs.resolve("CartPole-v1").make(4)
    for step in range(60):
        action = actions(env, step, 0, rows.obs)
        for slot in np.flatnonzero(rows.valid[step + 1]):
            single.state = rows.obs[step, slot].astype(np.float64)
            single.steps_beyond_terminated = None
            obs, reward, terminated, _, _ = single.step(int(action[slot]))
            np.testing.assert_allclose(rows.obs[step + 1, slot], obs, rtol=1e-4, atol=1e-5)
            assert (rows.reward[step + 1, slot], rows.terminated[step + 1, slot]) == (reward, terminated)


def test_the_first_that_are_ready_come_in_batches():
    env = envs.resolve("envpool:CartPole-v1", {"batch_size": 2}).make(6)
    env.reset(3)
    whole = record(Case("envpool:CartPole-v1"), num_envs=6, seed=3)
    first = env.recv(min_ready=3)
    assert len(first.slots) == 4
    assert list(first.slots) == sorted(first.slots)
    late = env.recv()
    assert sorted([*first.slots, *late.slots]) == list(range(6))
    for rows in (first, late):
        assert not rows.valid.any()
        np.testing.assert_array_equal(rows.obs, whole.obs[0, rows.slots])
    env.send(np.zeros(2, np.int32), first.slots[:2])
    env.send(np.zeros(2, np.int32), late.slots)
    assert set(env.recv().slots) == {*first.slots[:2], *late.slots}
    env.send(np.zeros(1, np.int32), first.slots[:1])
    with pytest.raises(ValueError, match="1 environments under way never fill a batch of 2"):
        env.recv()
    env.close()


def test_a_time_limit_is_envpool_s_own():
    factory = wrapped(envs.resolve("envpool:Pendulum-v1"), frame_stack=2, time_limit=9)
    assert factory.spec.max_episode_steps == 9
    case = Case("envpool:Pendulum-v1", {"max_episode_steps": 9}, steps=30)
    assert ages(record(case)).max() == 9
    assert factory.make(2).spec.obs == ArraySpec((2, 3), "float32")


def test_seeds_belong_to_environments():
    case = Case("envpool:Hopper-v5")
    shifted = record(case, num_envs=2, first_index=2)
    assert same(record(case).obs[0, 2:], shifted.obs[0])


@pytest.mark.parametrize(
    ("env", "kwargs", "expected"),
    [
        ("envpool:Pong", None, "unknown environment 'envpool:Pong'; nearest: envpool:Pong-v5"),
        ("envpool:pong-v4", None, "nearest: envpool:Pong-v5"),
        ("envpool:CartPole-v7", None, "nearest: envpool:CartPole-v1"),
        ("envpool:Halfcheetah-v5", None, "nearest: envpool:HalfCheetah-v5"),
        ("envpool:", None, "unknown environment 'envpool:'; see: shoal list envs"),
        ("envpool:Go9x9-v1", None, "is a game of 2 players; choose an environment for one agent"),
        ("envpool:Pong-v5", {"frameskip": 4}, "unknown env_kwargs frameskip; valid names: batch_size, num_threads"),
        ("envpool:Pong-v5", {"seed": 4}, "unknown env_kwargs seed"),
        ("envpool:Pong-v5", {"frame_skip": 0}, "frame_skip is 0; give a whole number of at least 1"),
        ("envpool:Pong-v5", {"reward_clip": 1}, "reward_clip is 1; give true or false"),
        ("envpool:Pong-v5", {"repeat_action_probability": "often"}, "is 'often'; give a number"),
        ("envpool:Hopper-v5", {"xml_file": 3}, "xml_file is 3; give a str"),
    ],
)
def test_refusals(env, kwargs, expected):
    with pytest.raises(ConfigError) as caught:
        envs.resolve(env, kwargs)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_batches_divide_the_environments():
    with pytest.raises(ConfigError, match="3 environments are no multiple of batch_size=2; give a divisor"):
        factory_of(Case("envpool:CartPole-v1", {"batch_size": 2})).make(3)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ConfigError) as caught:
        envs.resolve("envpool:Pong-v5")
    assert str(caught.value).endswith("pip install 'shoal[envpool]'")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="envpool:Pong-v5: EnvPool is not installed; pip install"):
        envs.resolve("envpool:Pong-v5")
    assert not [group for group in envs.list_envs() if "EnvPool" in group]


def test_lists_name_every_family():
    listed = envs.list_envs()
    assert "envpool:Pong-v5" in listed["EnvPool atari"]
    assert "envpool:Ant-v5" in listed["EnvPool mujoco.gym"]
    assert "envpool:Ant-v4" not in listed["EnvPool mujoco.gym"]
    assert any("more of minigrid" in line for line in listed["EnvPool, other families"])
