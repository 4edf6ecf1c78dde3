# SPDX-License-Identifier: Apache-2.0
"""From names to what an architecture wires together: environment, agent, learner, engine."""

import dataclasses
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from shoal import envs, seeds
from shoal.actors.samplers import way_of
from shoal.agents.host_policy import Plan, acting_in_numpy
from shoal.architectures.base import Parts
from shoal.envs import EnvFactory, VectorEnv
from shoal.envs.base import refuse_factory_together
from shoal.envs.modules import importable_name
from shoal.envs.pool import in_workers, require_workers
from shoal.envs.wrappers import wrapped
from shoal.errors import ConfigError
from shoal.processes.limits import require_files, require_memory
from shoal.replay import require_replay_room
from shoal.trees import tree_leaves
from shoal.types import EnvSpec

ROW_BYTES = 32
"""of a trajectory's row besides its observation: action, reward, flags, log-probability, episode statistics"""
SLOTS = 4
"""unrolls of an actor in shared memory at once: being written, waiting, being learnt from"""


def environment_for(config: Any, factory: EnvFactory) -> EnvFactory:
    """The environment as the config wants it seen: stacked, limited, masked.

    Raises: ConfigError, EnvironmentFault where it cannot be.
    """
    return wrapped(factory, config.frame_stack, config.time_limit, config.mask_from_info)


def maker_of(config: Any, factory: EnvFactory) -> Callable[[int, int], VectorEnv]:
    """make(num_envs, first_index) of a sampler's environments: in the process that makes them, or in workers."""
    if way_of(config) in ("central", "alternating"):
        return in_workers(factory, config.env_workers, config.step_timeout)
    return factory.make


def require_sampling(config: Any, factory: EnvFactory, network: Any) -> None:
    """Raises ConfigError or MemoryShort where an environment or the machine cannot do what the fields want."""
    way = way_of(config)
    groups = 2 if way == "alternating" else 1
    in_group = config.envs_per_actor // groups
    if config.env_workers:
        require_workers(factory, config.all_actors * groups, config.env_workers, in_group)
    if way == "parallel":
        refuse_nameless(factory, network, "use another --sampler")
        require_room(config, factory.spec)
    alone = config.env_workers == in_group or in_group == 1
    for setting, wanted in (
        ("reset=wait", config.reset == "wait"), (f"decorrelate={config.decorrelate}", config.decorrelate),
    ):  # fmt: skip
        if wanted and not alone:
            refuse_factory_together(factory, setting)
    if hasattr(config, "replay_capacity"):
        require_replay_room(config, factory.spec)


def make_parts(module: ModuleType, config: Any, factory: EnvFactory, network: Any) -> Parts:
    """Real parts for a run from its beginning. Imports JAX.

    Raises: ConfigError where the network doesn't fit the environment, or the architecture its memory.
    """
    from shoal.networks.resolve import resolve

    agent = module.make_agent(config, factory.spec, resolve(network, factory.spec))
    return parts_around(agent, module, config, factory)._replace(
        origin=working_origin(agent, module, config, factory, network)
    )


def parts_around(agent: Any, module: ModuleType, config: Any, factory: EnvFactory) -> Parts:
    """Real parts over an agent that exists."""
    if agent.recurrent and not getattr(module, "CARRIES_MEMORY", False):
        name = module.__name__.rpartition(".")[2]
        raise ConfigError(
            f"{name} learns from rows in no order, so it carries no memory; use another network than lstm"
        )
    return Parts(
        spec=factory.spec,
        make_env=maker_of(config, factory),
        agent=agent,
        learner=module.make_learner(config, agent),
        seed=segment_seed(config, 0),
    )


def learns_in_workers(module: ModuleType, config: Any) -> bool:
    """Whether workers, and not only the body of the architecture, compute gradients: then they need the learner too."""
    return getattr(module, "learns_in_workers", lambda _: False)(config)


def working_origin(
    agent: Any, module: ModuleType, config: Any, factory: EnvFactory, network: Any
) -> tuple[str, tuple] | None:
    """`working_parts` or `learning_parts` and its arguments but the seed; None where no name leads to the environment
    or the network."""
    name = network if isinstance(network, str) else importable_name(network)
    if factory.origin is None or name is None:
        return None
    plan = None if factory.traced else agent.plan  # compiled with its environments, whatever it could do by itself
    maker = "learning_parts" if learns_in_workers(module, config) else "working_parts"
    return f"{__name__}:{maker}", (
        *factory.origin, module.__name__, dataclasses.asdict(config), name, plan
    )  # fmt: skip


def working_parts(
    env: str,
    env_kwargs: dict[str, Any],
    architecture: str,
    fields: dict[str, Any],
    network: str | None,
    plan: dict[str, Any] | None,
    seed: int,
) -> Parts:
    """Parts that act as those act whose `recipe` holds these arguments; there is no learner among them.

    Args:
      env, env_kwargs: what `envs.resolve` takes.
      architecture: full name of the architecture's module.
      fields: those of its Config.
      network: a name that `networks.resolve` takes; None for a worker that does not act.
      plan: how to act in NumPy; with it JAX is not imported.

    Check: a rollout of these parts is a rollout of the original ones.
    """
    module = importlib.import_module(architecture)
    config = module.Config(**fields)
    factory = environment_for(config, envs.resolve(env, env_kwargs))
    if network is None:
        agent = None
    elif plan is not None:
        agent = acting_in_numpy(Plan.from_dict(plan), factory.spec)
    else:
        from shoal.networks.resolve import resolve

        agent = module.make_agent(config, factory.spec, resolve(network, factory.spec))
    origin = f"{__name__}:working_parts", (env, env_kwargs, architecture, fields, network, plan)
    return Parts(factory.spec, maker_of(config, factory), agent, learner=None, seed=seed, origin=origin)


def learning_parts(
    env: str,
    env_kwargs: dict[str, Any],
    architecture: str,
    fields: dict[str, Any],
    network: str,
    _plan: dict[str, Any] | None,
    seed: int,
) -> Parts:
    """Parts with a learner, from the arguments of `working_parts`. Imports JAX."""
    module = importlib.import_module(architecture)
    config = module.Config(**fields)
    factory = environment_for(config, envs.resolve(env, env_kwargs))
    return make_parts(module, config, factory, network)._replace(seed=seed)


def acting_only(parts: Parts) -> Parts:
    """Parts whose recipe leads to `working_parts`: for a worker's own workers, which act and do not learn."""
    return parts if parts.origin is None else parts._replace(origin=(f"{__name__}:working_parts", parts.origin[1]))


def preloads(agent: Any, module: ModuleType, config: Any) -> tuple[str, ...]:
    """Modules that workers in processes of their own will import, worth importing once for all of them."""
    always = ("gymnasium", "shoal.envs.single", "shoal.actors.synchronous", "shoal.actors.asynchronous", __name__)
    joint = getattr(config, "learner_processes", 1) > 1
    if agent.plan is not None and not joint and not learns_in_workers(module, config):
        return always
    return *always, "jax", "equinox", "optax", "shoal.agents.actor_critic"


def require_room(config: Any, spec: EnvSpec) -> None:
    """Ask for what actors in processes of their own will need, before anything starts.

    Raises: ConfigError, MemoryShort in one line where the machine hasn't got it.
    """
    row = sum(np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape)) for leaf in tree_leaves(spec.obs))
    unroll = (config.unroll_length + 1) * config.envs_per_actor * (row + ROW_BYTES)
    require_files(config.all_actors)
    require_memory(SLOTS * unroll * config.all_actors, f"the unrolls of {config.all_actors} actors")


def refuse_nameless(factory: EnvFactory, network: Any, otherwise: str) -> None:
    """Raises ConfigError for what actors in other processes could not find by name; `otherwise` needs none."""
    remedy = f"put it into a module of its own and give that name, or {otherwise}"
    if factory.origin is None:
        raise ConfigError(f"env {factory.name} cannot be found by name in another process; {remedy}")
    if not isinstance(network, str) and importable_name(network) is None:
        raise ConfigError(f"network {network!r} cannot be found by name in another process; {remedy}")


def segment_seed(config: Any, env_steps: int) -> int:
    """Root of the randomness of environments and acting from `env_steps` on.

    Every start, first or resumed, has its own: a resumed run doesn't relive the noise of the first.
    """
    return seeds.derive(config.seed, "segment", env_steps)


def default_engine(architecture: str, config: Any) -> str:
    """Where to run if nobody said: one actor in lock-step has nothing to overlap with, so threads would only cost; and
    workers that learn side by side need a process each, since threads take turns."""
    apart = getattr(config, "optimisation", "sync") != "sync" or getattr(config, "learner_processes", 1) > 1
    if architecture in ("a3c", "gorila") or apart:
        return "processes"
    takes_turns = architecture in ("a2c", "ppo") and config.all_actors == 1 and config.sampler != "async"
    return "inline" if takes_turns else "threads"
