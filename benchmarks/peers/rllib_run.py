# SPDX-License-Identifier: Apache-2.0
"""RLlib's IMPALA on a cluster that runs, in RLlib's own Python: prints its steps a second as JSON.

python benchmarks/peers/rllib_run.py ADDRESS ENV ACTORS ENVS UNROLL BATCH SECONDS
"""

import importlib
import json
import sys
import time

import ray
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

WARM_S = 10.0


def main(address: str, env: str, actors: int, envs: int, unroll: int, batch: int, seconds: float) -> None:
    """Train for so long after warming up."""
    ray.init(address=address, log_to_driver=False, logging_level="error")
    if ":" in env:
        module, _, name = env.partition(":")
        kind = getattr(importlib.import_module(module), name)
        register_env("its_env", lambda settings: kind())
        env = "its_env"
    config = (
        IMPALAConfig()
        .environment(env)
        .env_runners(
            num_env_runners=actors,
            num_envs_per_env_runner=envs,
            rollout_fragment_length=unroll,
            num_cpus_per_env_runner=1,
        )
        .learners(num_learners=0)
        .training(lr=5e-4, train_batch_size_per_learner=batch, grad_clip=40.0, entropy_coeff=0.01, vf_loss_coeff=0.5)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh"))
        .reporting(min_time_s_per_iteration=1, metrics_num_episodes_for_smoothing=20)
        .debugging(log_level="ERROR")
    )
    algorithm = config.build_algo()
    began, first, found = time.monotonic(), None, None
    while True:
        result = algorithm.train()
        now, steps = time.monotonic(), counts(result)
        if first is None:
            first = (now, steps) if now - began > WARM_S else None
            continue
        found = [(b - a) / (now - first[0]) for a, b in zip(first[1], steps, strict=True)]
        if now - first[0] > seconds:
            break
    print(json.dumps({"sampled_per_s": found[0], "trained_per_s": found[1]}), flush=True)
    algorithm.stop()


def counts(result: dict) -> tuple[float, float]:
    """Steps sampled and steps trained on, so far."""
    learner = result.get("learners", {}).get("__all_modules__", {})
    sampled = result.get("env_runners", {}).get("num_env_steps_sampled_lifetime", 0.0)
    return float(sampled), float(learner.get("num_env_steps_trained_lifetime", 0.0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7]), float(sys.argv[7]))
