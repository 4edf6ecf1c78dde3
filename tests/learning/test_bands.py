# SPDX-License-Identifier: Apache-2.0
"""Every architecture reaches its calibrated band with its preset: several seeds, the number that may fail stated.

Presets were tuned on seeds 0-4; these seeds were kept for acceptance. Bands: mean raw return of the last 100 episodes.
"""

import pytest

from shoal import training

SEEDS = (100, 101, 102, 103, 104)
MAY_FAIL = 1
BUDGET = 300_000


def final_returns(architecture, env, folder):
    """Mean return of the last 100 episodes at the end of training, by seed."""
    returns = []
    for seed in SEEDS:
        result = training.train(
            architecture, env, env_steps=BUDGET, seed=seed, run_dir=folder / f"{architecture}-{seed}", quiet=True
        )
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
        ("ppo", "Pendulum-v1", -300),
    ],
)
def test_reaches_its_band(architecture, env, least, tmp_path):
    returns = final_returns(architecture, env, tmp_path)
    reached = sum(value >= least for value in returns)
    assert reached >= len(SEEDS) - MAY_FAIL, f"{architecture} on {env}: {returns}"


@pytest.mark.parametrize("architecture", ["a2c", "ppo", "impala"])
def test_learns_something_in_a_short_run(architecture, tmp_path):
    result = training.train(architecture, "CartPole-v1", env_steps=60_000, seed=0, run_dir=tmp_path / "run", quiet=True)
    assert result.metrics[-1]["episode_return_mean"] >= 100
