# SPDX-License-Identifier: Apache-2.0
"""What crosses in an architecture, counted on twins in simulated time: no training, no JAX, no simulator."""

import dataclasses
from typing import Any

from shoal.architectures import registry
from shoal.engines import make_engine
from shoal.placement.twins import twin_parts
from shoal.types import ArraySpec, Discrete, EnvSpec

CARTPOLE = EnvSpec("CartPole-v1", ArraySpec((4,), "float32"), Discrete(2), 500)
CARTPOLE_PARAMS = 9_155
"""numbers in two 64-64 towers with two actions and one value"""
UPDATES = 20


def flow_of(
    architecture: str, spec: EnvSpec = CARTPOLE, params_size: int = CARTPOLE_PARAMS, **fields: Any
) -> list[dict[str, Any]]:
    """Ledger rows of about UPDATES updates with two actors or more; `fields` change the Config. Every learner that sums
    gradients has a device of its own here, unless told otherwise.

    Check: the rows have the messages, roles and bytes per message of a real run.
    """
    module = registry.load(architecture)
    config = module.Config(**fields)
    config = dataclasses.replace(config, num_actors=max(config.num_actors, 2), **_budget(config))
    engine = make_engine("simulated")
    devices = getattr(config, "learner_devices", 0) or getattr(config, "learners", 1)
    engine.run(module.run, config, twin_parts(spec, params_size, devices=devices))
    return engine.rows()


def _budget(config: Any) -> dict[str, int]:
    steps_per_update = config.envs_per_actor * config.unroll_length * max(config.num_actors, 2)
    return {"env_steps": UPDATES * steps_per_update}
