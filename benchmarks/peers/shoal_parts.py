# SPDX-License-Identifier: Apache-2.0
"""Environment, act and update of shoal's PPO alone, in a process of its own; prints one JSON object."""

import argparse
import json

from benchmarks import alone
from benchmarks.peers import settings
from shoal.architectures import registry


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for each part")
    parser.add_argument("--num-envs", type=int, required=True)
    given = parser.parse_args()
    settings.use(given.num_envs)
    fields = {flag.lstrip("-").replace("-", "_"): value for flag, value in settings.SHOAL_FLAGS.items()}
    config = registry.load("ppo").Config(**fields)
    parts = alone.parts_of("ppo", config, given.env)
    actions = alone.balancing_actions(parts, settings.NUM_ENVS)
    env = alone.env_alone(parts, settings.NUM_ENVS, given.seconds, actions)
    act = alone.act_alone(parts, settings.NUM_ENVS, given.seconds)
    update = alone.update_alone(parts, config, 1, given.seconds)
    series = settings.UNROLL * (env["median"] + act["median"]) + update["median"]
    answer = {
        "env_step_s": env,
        "act_s": act,
        "update_s": update,
        "env_alone_steps_per_s": settings.NUM_ENVS / env["median"],
        "act_alone_steps_per_s": settings.NUM_ENVS / act["median"],
        "update_alone_steps_per_s": settings.BATCH / update["median"],
        "in_series_steps_per_s": settings.BATCH / series,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
