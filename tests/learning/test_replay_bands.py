# SPDX-License-Identifier: Apache-2.0
"""What learns from a replay memory in rounds reaches its band, and robots learn in real time, the sooner the more there
are. Presets were tuned on seeds 0-4; these were kept for acceptance.
"""

import numpy as np
import pytest

from learning.test_bands import MAY_FAIL, SEEDS, final_returns
from shoal import envs
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine

TD3 = {"twin": True, "policy_delay": 2, "target_noise": 0.2}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.evidence("learning")
@pytest.mark.parametrize(
    ("architecture", "env", "least", "env_steps"),
    [
        ("dqn", "CartPole-v1", 450, 150_000),
        ("rainbow", "CartPole-v1", 450, 150_000),
        ("ddpg", "Pendulum-v1", -200, 60_000),
        ("naf", "Pendulum-v1", -200, 60_000),
        ("sac", "Pendulum-v1", -200, 60_000),
    ],
)
def test_reaches_its_band(architecture, env, least, env_steps, tmp_path):
    returns = final_returns(architecture, env, tmp_path, env_steps=env_steps)
    assert sum(value >= least for value in returns) >= len(SEEDS) - MAY_FAIL, f"{architecture} on {env}: {returns}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.evidence("learning", "dqn/sampler=async")
def test_it_learns_from_what_was_sampled_while_it_learnt(tmp_path):
    returns = final_returns("dqn", "CartPole-v1", tmp_path, env_steps=150_000, sampler="async")
    assert sum(value >= 450 for value in returns) >= len(SEEDS) - MAY_FAIL, returns


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_settings_of_td3_reach_the_band_of_ddpg(tmp_path):
    returns = final_returns("ddpg", "Pendulum-v1", tmp_path, env_steps=60_000, **TD3)
    assert sum(value >= -200 for value in returns) >= len(SEEDS) - MAY_FAIL, returns


def robots(architecture, env, env_kwargs, collectors, enough, **fields):
    """(seconds, env steps) until robots do well enough, judged by the mean return of so many last episodes."""
    module = registry.load(architecture)
    least, window = enough
    config = module.Config(realtime=True, envs_per_actor=1, num_actors=collectors, **fields)
    parts = make_parts(module, config, envs.resolve(env, env_kwargs), "auto")
    engine, returns, reached = make_engine("processes"), [], []
    engine.preload = preloads(parts.agent, module, config)

    def note(**told):
        returns.extend(value for value, _ in told.get("learnt", {"episodes": []})["episodes"])

    def look(state, batch, metrics):
        if not reached and len(returns) >= window and np.mean(returns[-window:]) >= least:
            reached.append((engine.now(), state.env_steps))
            return state._replace(env_steps=config.env_steps)
        return state

    engine.on_note = note
    engine.run(module.run, config, parts, None, look)
    return reached[0] if reached else (engine.now(), config.env_steps)


REALTIME = [pytest.param(name, marks=pytest.mark.evidence("learning", f"{name}/realtime")) for name in ("naf", "ddpg")]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", REALTIME)
def test_four_robots_learn_in_less_time_than_one(name):
    """In the median of three seeds: in real time no two runs of a seed are alike, and one may take twice as long as
    another."""
    fields = {"env_steps": 24_000, "replay_start": 200, "batch_size": 64, "replay_ratio": 64.0, "discount": 0.8,
              "target_rate": 0.005, "exploration_noise": 0.2}  # fmt: skip
    took = {
        n: [robots(name, "toy:reacher", {}, n, (-9.0, 20), seed=seed, **fields) for seed in SEEDS[:3]] for n in (1, 4)
    }
    assert np.median([env_steps for _, env_steps in took[1]]) < fields["env_steps"], took
    one, four = (np.median([seconds for seconds, _ in took[n]]) for n in (1, 4))
    assert four < 0.8 * one, took


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_grippers_feed_one_predictor_of_success():
    # nothing follows a grasp: the value of an action is the share of successes, learnt as any supervised target
    fields = {"env_steps": 8_000, "replay_start": 200, "batch_size": 64, "replay_ratio": 32.0, "discount": 0.0,
              "target_interval": 0, "epsilon_final": 0.05, "epsilon_steps": 3_000}  # fmt: skip
    seconds, env_steps = robots("dqn", "toy:grasp", {}, 6, (0.7, 200), **fields)
    assert env_steps < fields["env_steps"], (seconds, env_steps)
