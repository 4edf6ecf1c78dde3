# SPDX-License-Identifier: Apache-2.0
"""From names to what an architecture wires together: environment, agent, learner, engine."""

from types import ModuleType
from typing import Any

from shoal import seeds
from shoal.architectures.base import Parts
from shoal.envs import EnvFactory
from shoal.envs.wrappers import wrapped


def environment_for(config: Any, factory: EnvFactory) -> EnvFactory:
    """The environment as the config wants it seen: stacked, limited, masked.

    Raises: ConfigError, EnvironmentFault where it cannot be.
    """
    return wrapped(factory, config.frame_stack, config.time_limit, config.mask_from_info)


def make_parts(module: ModuleType, config: Any, factory: EnvFactory, network: Any) -> Parts:
    """Real parts for a run from its beginning. Imports JAX."""
    from shoal.networks.resolve import resolve

    agent = module.make_agent(config, factory.spec, resolve(network, factory.spec))
    return parts_around(agent, module, config, factory)


def parts_around(agent: Any, module: ModuleType, config: Any, factory: EnvFactory) -> Parts:
    """Real parts over an agent that exists."""
    return Parts(
        spec=factory.spec,
        make_env=factory.make,
        agent=agent,
        learner=module.make_learner(config, agent),
        seed=segment_seed(config, 0),
    )


def segment_seed(config: Any, env_steps: int) -> int:
    """Root of the randomness of environments and acting from `env_steps` on.

    Every start, first or resumed, has its own: a resumed run doesn't relive the noise of the first.
    """
    return seeds.derive(config.seed, "segment", env_steps)


def default_engine(architecture: str, num_actors: int) -> str:
    """Where to run if nobody said: one actor in lock-step has nothing to overlap with, so threads would only cost."""
    return "inline" if architecture in ("a2c", "ppo") and num_actors == 1 else "threads"
