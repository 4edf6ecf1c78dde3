# SPDX-License-Identifier: Apache-2.0
"""The best checkpoint outlives what came after it."""

import shoal
from shoal.records import checkpoint


def test_the_best_checkpoint_is_kept_and_evaluated(tmp_path):
    """Returns rise and are then spoilt by a learning rate that ruins the policy: the best stays on disk."""
    run_dir = tmp_path / "run"
    shoal.train("ppo", "toy:catch", env_steps=20_000, run_dir=run_dir, quiet=True, seed=0)
    best = checkpoint.best(run_dir / "checkpoints")
    assert best is not None
    score = checkpoint.best_score(run_dir / "checkpoints")
    shoal.resume(run_dir, env_steps=40_000, learning_rate=10.0, anneal_learning_rate=False, quiet=True)
    assert checkpoint.best_score(run_dir / "checkpoints") >= score
    spoilt = shoal.evaluate(run_dir, 50)["return_mean"]
    assert shoal.evaluate(run_dir, 50, best=True)["return_mean"] > spoilt
