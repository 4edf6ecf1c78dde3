# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every environment plays its share, on seeds of its own."""

import numpy as np
import pytest

from agents.made import Recaller, make_agent
from shoal import envs, seeds
from shoal.envs.base import EnvFactory
from shoal.errors import ConfigError, EnvironmentFault
from shoal.learners.base import LearnerState
from shoal.training import evaluation
from shoal.training.evaluation import PARALLEL_ENVS, evaluate_policy
from shoal.training.result import Result
from training.own_envs import Uneven


@pytest.fixture
def result(tmp_path):
    agent = make_agent("a2c", Uneven.spec)
    state = LearnerState(agent.init(0), (), 0, 0, 0)
    return Result(tmp_path, [], None, state, agent, EnvFactory("made:uneven", Uneven.spec, True, Uneven))


@pytest.mark.parametrize("episodes", [1, 3, 10, 25, 40])
def test_short_episodes_are_not_favoured(result, episodes):
    found = evaluate_policy(result, episodes)
    envs = min(episodes, PARALLEL_ENVS)
    share = [episodes // envs + (i < episodes % envs) for i in range(envs)]
    expected = sorted(10.0 * (i + 1) for i in range(envs) for _ in range(share[i]))
    assert sorted(found["returns"]) == expected
    assert found["return_mean"] == pytest.approx(np.mean(expected))
    assert found["return_std"] == pytest.approx(np.std(expected))
    assert (found["return_min"], found["return_max"]) == (expected[0], expected[-1])
    assert found["length_mean"] == pytest.approx(np.mean(expected) / 10)
    assert found["episodes"] == episodes


def test_memory_starts_anew_with_every_episode(tmp_path, monkeypatch):
    factory = envs.resolve("toy:memory", {"length": 2})
    agent = make_agent("a2c", factory.spec, Recaller)
    remembering = Result(tmp_path, [], None, LearnerState(agent.init(0), (), 0, 0, 0), agent, factory)
    assert set(evaluate_policy(remembering, 30)["returns"]) == {1.0}
    monkeypatch.setattr(evaluation, "reset_memory", lambda memory, goes_on, initial: memory)
    assert set(evaluate_policy(remembering, 30)["returns"]) == {1.0, -1.0}


@pytest.mark.parametrize("env", ["toy:signpost", "toy:gates", "toy:dials"])
def test_every_form_of_observation_and_action_is_played(env, tmp_path):
    factory = envs.resolve(env)
    agent = make_agent("ppo", factory.spec)
    result = Result(tmp_path, [], None, LearnerState(agent.init(0), (), 0, 0, 0), agent, factory)
    found = [evaluate_policy(result, 12, deterministic)["returns"] for deterministic in (True, False)]
    assert all(len(returns) == 12 for returns in found)
    assert found[0] != found[1]


def test_seeds_are_its_own(result):
    Uneven.seeds.clear()
    evaluate_policy(result, 2, seed=5)
    evaluate_policy(result, 2, seed=6)
    assert Uneven.seeds == [seeds.derive(5, "evaluate"), seeds.derive(6, "evaluate")]
    assert Uneven.seeds[0] not in {seeds.derive(5, "segment", 0), 5}


def test_no_episodes_are_refused(result):
    with pytest.raises(ConfigError, match="episodes=0"):
        evaluate_policy(result, 0)


def test_an_episode_without_end_is_one_line(result, monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST_EPISODE", 0)
    with pytest.raises(EnvironmentFault, match="time limit"):
        evaluate_policy(result, episodes=2)
