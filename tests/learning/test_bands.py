# SPDX-License-Identifier: Apache-2.0
"""Every architecture reaches its calibrated band with its preset: several seeds, the number that may fail stated.

Presets were tuned on seeds 0-4; these seeds were kept for acceptance. Bands: mean raw return of the last 100 episodes.
"""

import pytest

from shoal import training

SEEDS = (100, 101, 102, 103, 104)
MAY_FAIL = 1
BUDGET = 300_000


def final_returns(architecture, env, folder, seeds=SEEDS, **settings):
    """Mean return of the last 100 episodes at the end of training, by seed."""
    returns = []
    for seed in seeds:
        run_dir = folder / f"{architecture}-{seed}"
        fields = {"env_steps": BUDGET} | settings
        result = training.train(architecture, env, seed=seed, run_dir=run_dir, quiet=True, **fields)
        returns.append(result.metrics[-1]["episode_return_mean"])
    return returns


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.evidence("learning")
@pytest.mark.parametrize(
    ("architecture", "env", "least"),
    [
        ("a2c", "CartPole-v1", 450),
        ("ppo", "CartPole-v1", 450),
        ("impala", "CartPole-v1", 450),
        ("appo", "CartPole-v1", 450),
        ("seed", "CartPole-v1", 450),
        ("a3c", "CartPole-v1", 450),
        ("ppo", "Pendulum-v1", -300),
    ],
)
def test_reaches_its_band(architecture, env, least, tmp_path):
    returns = final_returns(architecture, env, tmp_path)
    reached = sum(value >= least for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"{architecture} on {env}: {returns}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.evidence("learning")
@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala"])
def test_reaches_its_band_on_processes(architecture, tmp_path):
    split = {"num_actors": 2, "envs_per_actor": 8 if architecture == "impala" else 4}
    returns = final_returns(architecture, "CartPole-v1", tmp_path, engine="processes", **split)
    reached = sum(value >= 450 for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"{architecture} on processes: {returns}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.evidence("learning", "a2c/optimisation=sync")
@pytest.mark.evidence("learning", "ppo/optimisation=sync")
@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_reaches_its_band_with_learners_in_step(architecture, tmp_path):
    returns = final_returns(architecture, "CartPole-v1", tmp_path, learners=2, num_actors=2, envs_per_actor=4)
    reached = sum(value >= 450 for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"{architecture} with two learners: {returns}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.evidence("learning")
@pytest.mark.evidence("learning", "a2c/optimisation=async")
@pytest.mark.evidence("learning", "ppo/optimisation=async")
@pytest.mark.parametrize("optimisation", ["async", "async_skip"])
@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_reaches_its_band_with_learners_apart(architecture, optimisation, tmp_path):
    apart = {"optimisation": optimisation, "learners": 2, "num_actors": 2, "envs_per_actor": 4}
    returns = final_returns(architecture, "CartPole-v1", tmp_path, **apart)
    reached = sum(value >= 450 for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"{architecture} with {optimisation}: {returns}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.evidence("learning", "pg")
@pytest.mark.parametrize("step", "abcdef")
def test_each_step_of_the_policy_gradient_reaches_its_band(step, tmp_path):
    returns = final_returns("pg", "CartPole-v1", tmp_path, step=step)
    reached = sum(value >= 450 for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"pg, step {step}: {returns}"


CHAIN = {"ppo": {"env_steps": 60_000, "learning_rate": 1e-3}, "impala": {"env_steps": 60_000}}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", ["lstm", "gru"])
@pytest.mark.parametrize("architecture", CHAIN)
def test_memory_solves_the_chain(architecture, network, tmp_path):
    returns = final_returns(architecture, "toy:memory", tmp_path, network=network, **CHAIN[architecture])
    assert sum(value >= 0.9 for value in returns) >= len(SEEDS) - MAY_FAIL, returns


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("architecture", CHAIN)
def test_without_memory_the_chain_stays_a_coin_toss(architecture, tmp_path):
    returns = final_returns(architecture, "toy:memory", tmp_path, network="mlp", **CHAIN[architecture])
    assert max(map(abs, returns)) <= 0.4, returns  # four deviations of the mean of 100 tosses


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("env", "least", "env_steps"), [("toy:signpost", 7, 80_000), ("toy:dials", 3.8, 60_000), ("toy:gates", 7.5, 60_000)]
)
def test_several_entries_several_choices_and_masks_are_learnt(env, least, env_steps, tmp_path):
    returns = final_returns("ppo", env, tmp_path, env_steps=env_steps)
    assert sum(value >= least for value in returns) >= len(SEEDS) - MAY_FAIL, returns


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_body_of_mujoco_learns_to_run(tmp_path):
    pytest.importorskip("mujoco")
    returns = final_returns("ppo", "HalfCheetah-v5", tmp_path, seeds=SEEDS[:3])
    assert sum(value >= 500 for value in returns) >= 2, returns  # about -300 untrained


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala"])
def test_learns_something_in_a_short_run(architecture, tmp_path):
    """In one order, so that a busy machine changes nothing: it sets how stale IMPALA's batches are, and with that how
    far learning gets in so few steps (seeds 0-5: 140 to 314 in order, 105 to 175 as threads come)."""
    fields = {"env_steps": 60_000, "engine": "inline", "seed": 0}
    result = training.train(architecture, "CartPole-v1", run_dir=tmp_path / "run", quiet=True, **fields)
    assert result.metrics[-1]["episode_return_mean"] >= 100
