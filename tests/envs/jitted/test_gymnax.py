# SPDX-License-Identifier: Apache-2.0
"""gymnax ids: what each declares, that CartPole is Gymnasium's, how episodes end, and refusals in one line."""

import sys

import gymnasium
import numpy as np
import pytest

from envs.recording import Case, actions, record
from envs.wrappers.test_wrappers import ages
from shoal import envs
from shoal.envs.jitted.ids import GYMNAX, listed
from shoal.envs.wrappers import wrapped
from shoal.errors import ConfigError
from shoal.types import ArraySpec, Box, Discrete, EnvSpec

gymnax = pytest.importorskip("gymnax", reason="gymnax is an extra")


@pytest.mark.parametrize(
    ("env", "spec"),
    [
        ("gymnax:CartPole-v1", EnvSpec("", ArraySpec((4,), "float32"), Discrete(2), 500)),
        ("gymnax:Pendulum-v1", EnvSpec("", ArraySpec((3,), "float32"), Box((1,), (-2.0,), (2.0,)), 200)),
        ("gymnax:Breakout-MinAtar", EnvSpec("", ArraySpec((10, 10, 4), "float32"), Discrete(3), 1000)),
        ("gymnax:FrozenLake-misc", EnvSpec("", ArraySpec((16,), "float32"), Discrete(4), 100)),
    ],
)
def test_spec(env, spec):
    factory = envs.resolve(env)
    found = factory.spec
    assert (found.id, factory.traced, factory.split_invariant) == (env, True, True)
    assert (found.obs, found.action, found.max_episode_steps) == (spec.obs, spec.action, spec.max_episode_steps)


def test_ids_are_listed_without_loading_gymnax():
    assert list(GYMNAX) == gymnax.registered_envs
    assert "gymnax:Breakout-MinAtar" in listed()["gymnax"]


def test_cartpole_is_gymnasium_s():
    """Every valid row follows from the row before by Gymnasium's own step."""
    rows = record(Case("gymnax:CartPole-v1", {"max_steps_in_episode": 20}, steps=60))
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


def test_a_limit_truncates_and_a_fall_terminates():
    rows = record(Case("gymnax:CartPole-v1", around={"time_limit": 12}))
    assert ages(rows).max() == 12
    np.testing.assert_array_equal(ages(rows)[rows.truncated], 12)
    assert rows.truncated.any()
    assert rows.terminated.any()
    assert not (rows.truncated & rows.terminated).any()
    fallen = np.abs(rows.obs[rows.terminated][:, 2])
    assert fallen.min() > 12 * 2 * np.pi / 360
    assert np.abs(rows.obs[rows.truncated][:, 2]).max() <= 12 * 2 * np.pi / 360


def test_a_stack_goes_around_it():
    factory = wrapped(envs.resolve("gymnax:CartPole-v1"), frame_stack=2, time_limit=12)
    assert (factory.spec.obs, factory.spec.max_episode_steps) == (ArraySpec((2, 4), "float32"), 12)
    assert not factory.traced
    assert not hasattr(factory.make(2), "traced")


def test_settings_of_constructor_and_params():
    assert envs.resolve("gymnax:Breakout-MinAtar", {"use_minimal_action_set": False}).spec.action == Discrete(6)
    assert envs.resolve("gymnax:CartPole-v1", {"max_steps_in_episode": 9}).spec.max_episode_steps == 9


@pytest.mark.parametrize(
    ("env", "kwargs", "expected"),
    [
        ("gymnax:CartPole", None, "unknown environment 'gymnax:CartPole'; nearest: gymnax:CartPole-v1"),
        ("gymnax:cartpole-v0", None, "nearest: gymnax:CartPole-v1"),
        ("gymnax:breakout", None, "nearest: gymnax:Breakout-MinAtar"),
        ("gymnax:", None, "unknown environment 'gymnax:'; see: shoal list envs"),
        ("gymnax:CartPole-v1", {"gravty": 1}, "unknown env_kwargs gravty; valid names: force_mag, gravity"),
        ("gymnax:CartPole-v1", {"gravity": "up"}, "cannot be traced"),
        ("gymnax:CartPole-v1", {"gravity": object()}, "give numbers, text and lists"),
    ],
)
def test_refusals(env, kwargs, expected):
    with pytest.raises(ConfigError) as caught:
        envs.resolve(env, kwargs)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    with pytest.raises(ConfigError, match=r"gymnax is not installed; pip install 'shoal\[gymnax\]'"):
        envs.resolve("gymnax:Acrobot-v1")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GYMNAX if name != "MNISTBandit-bsuite"])  # which downloads
def test_every_id_steps_and_keeps_its_limit(name):
    rows = record(Case(f"gymnax:{name}", around={"time_limit": 7}, steps=40), num_envs=3)
    assert 1 <= ages(rows).max() <= 7
    assert rows.ended.any()
    np.testing.assert_array_equal(rows.valid[1:], ~rows.ended[:-1])
