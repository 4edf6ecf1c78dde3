# SPDX-License-Identifier: Apache-2.0
"""Environments in processes of their own, a pool of workers behind the host interface.

    owner: PoolVector --slots to step--> worker (n): any adapter over a share of the environments
               ^  ^----slots that are ready----|
               +------rows and actions---------+   in one segment of shared memory, a row an environment

A worker imports no JAX, steps many environments, and ends with its owner. One that dies is started anew, and its
environments open new episodes; what an environment raises or hangs in comes out here as one line that names it.
"""

from collections.abc import Callable
from functools import partial

from shoal.envs.base import EnvFactory, VectorEnv
from shoal.errors import ConfigError
from shoal.processes import limits

JITTED = "shoal.envs.jitted"


def in_workers(factory: EnvFactory, workers: int, step_timeout: float) -> Callable[[int, int], VectorEnv]:
    """make(num_envs, first_index) -> that many environments of the factory, wrappers included, in `workers` processes.

    Args:
      step_timeout: seconds that an environment may take over a step before it is ended.

    Raises ConfigError where JAX would have to step them.

    Check: the environments give the data that those of `factory.make` give, where the factory is split-invariant.
    """
    from shoal.envs.pool.vector import PoolVector

    refuse_jitted(factory)
    return partial(PoolVector, factory, workers=workers, step_timeout=step_timeout)


def require_workers(factory: EnvFactory, pools: int, workers: int, num_envs: int) -> None:
    """Ask for what so many pools, each of so many workers and environments, will need.

    Raises in one line: ConfigError where no name leads to the environment or files or processes are too few,
    MemoryShort where shared memory is.
    """
    from shoal.envs.pool.rows import size_of

    refuse_jitted(factory)
    if factory.origin is None:
        remedy = "put it into a module of its own and give that name, or set env_workers to 0"
        raise ConfigError(f"env {factory.name} cannot be found by name in another process; {remedy}")
    limits.require_processes(pools * workers)
    limits.require_files(pools * workers)
    limits.require_memory(pools * size_of(factory.spec, num_envs), "rows of environments in workers")


def refuse_jitted(factory: EnvFactory) -> None:
    """Raises ConfigError for environments that JAX steps."""
    from shoal.envs.pool.member import adapter_of

    if adapter_of(factory).startswith(JITTED):
        reason = "its environments are stepped by JAX, which workers do not have"
        raise ConfigError(f"env {factory.name} cannot be stepped in workers: {reason}; set env_workers to 0")
