# SPDX-License-Identifier: Apache-2.0
"""Toy robots: what is promised of their returns, and that their pace is their own."""

from time import perf_counter

import numpy as np
import pytest

from shoal.envs.robots import Grasp, Reacher
from shoal.errors import ConfigError

EPISODES = 200


def straight(obs):
    return np.clip(10 * (obs[2:] - obs[:2]), -1, 1)


def reach(env, policy, seed):
    obs, _ = env.reset(seed=seed)
    total, truncated = 0.0, False
    while not truncated:
        obs, reward, terminated, truncated, _ = env.step(policy(obs))
        assert not terminated
        total += reward
    return total


def test_a_reacher_that_goes_straight_does_far_better_than_one_that_does_not():
    env, rng = Reacher(step_s=0), np.random.default_rng(0)
    assert -6 < np.mean([reach(env, straight, seed) for seed in range(EPISODES)]) < -5
    assert np.mean([reach(env, lambda _: rng.uniform(-1, 1, 2), seed) for seed in range(EPISODES)]) < -35


def test_the_best_angle_succeeds_in_nine_of_ten_attempts_and_any_in_one_of_five():
    env, rng = Grasp(step_s=0), np.random.default_rng(0)
    best, random = [], []
    for seed in range(2_000):
        obs, _ = env.reset(seed=seed)
        angle = np.arctan2(obs[1], obs[0]) / 2
        best.append(env.step(round(angle / np.pi * 8) % 8)[1])
        env.reset(seed=seed)
        random.append(env.step(int(rng.integers(8)))[1])
    assert np.mean(best) == pytest.approx(0.91, abs=0.03)
    assert np.mean(random) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("make", [Reacher, Grasp])
def test_steps_take_their_time_and_give_the_same_data(make):
    slow, quick = make(step_s=0.02), make(step_s=0)
    first = slow.reset(seed=3)[0]
    np.testing.assert_array_equal(first, quick.reset(seed=3)[0])
    action = quick.action_space.sample()
    began = perf_counter()
    (obs, *rest), took = slow.step(action), perf_counter() - began
    assert took >= 0.02
    other, *others = quick.step(action)
    np.testing.assert_array_equal(obs, other)
    assert rest == others


@pytest.mark.parametrize(("make", "wrong"), [(Reacher, {"step_s": -1}), (Grasp, {"angles": 1})])
def test_settings_out_of_range_are_refused(make, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make(**wrong)
