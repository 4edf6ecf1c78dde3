# SPDX-License-Identifier: Apache-2.0
"""Short runs of each architecture on a split-invariant toy environment, with everything they did kept."""

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clusters import two_nodes
from shoal import envs
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts, preloads
from shoal.architectures.base import Parts
from shoal.architectures.replayed import ReplayConfig
from shoal.engines import IN_PROCESSES, make_engine
from shoal.engines.base import Engine

NAMES = tuple(registry.ARCHITECTURES)
ENV = "toy:catch"
REAL_ENV = "Pendulum-v1"
NUM_ACTORS, ENVS_PER_ACTOR, UNROLL = 2, 2, 6
WITHOUT_TRAJECTORIES = ("a3c",)
"""architectures whose workers learn: what they look at crosses nowhere"""
REPLAY = tuple(name for name in NAMES if issubclass(registry.load(name).Config, ReplayConfig))
"""architectures that learn from a memory"""
REAL = ("ddpg", "naf", "sac")
"""those whose actions are real numbers"""
CARRY_MEMORY = tuple(name for name in NAMES if getattr(registry.load(name), "CARRIES_MEMORY", False))


@dataclass
class Run:
    """What a visit sees, update by update; and where no trajectory comes to it, what workers say of their gradients."""

    engine: Engine
    workers: int = 0
    """processes that the first visit waits for, where others could be through before they have begun"""
    states: list[Any] = field(default_factory=list)
    lags: list[np.ndarray] = field(default_factory=list)
    senders_versions: list[list[int]] = field(default_factory=list)

    def note(self, **metrics):
        if "learnt" in metrics:
            self.lags.append(np.atleast_1d(metrics["learnt"]["lag"]))

    def visit(self, state, batch, metrics):
        while len(self.engine.pids) < self.workers:
            time.sleep(0.01)
        self.states.append(state)
        if batch:
            self.lags.append(np.concatenate([state.version - 1 - item.version for item in batch]))
        self.senders_versions.append([int(item.version[0]) for item in batch])
        return state

    @property
    def params(self) -> np.ndarray:
        return np.array(self.states[-1].params)


def config_of(architecture: str, updates: int, seed: int = 0, **fields: Any) -> Any:
    """A small config that takes about `updates` updates."""
    small = {
        "num_actors": NUM_ACTORS,
        "envs_per_actor": ENVS_PER_ACTOR,
        "unroll_length": UNROLL,
        "seed": seed,
        "anneal_learning_rate": False,
    }
    if architecture in WITHOUT_TRAJECTORIES:
        small["pushes_per_visit"] = 1
    if architecture == "pg":
        small["episode_limit"] = UNROLL
    if architecture in REPLAY:
        return replay_config_of(architecture, updates, small | fields)
    config = dataclasses.replace(registry.load(architecture).Config(), **{**small, **fields})
    trajectories = getattr(config, "batch_trajectories", config.num_actors)
    return dataclasses.replace(config, env_steps=updates * trajectories * config.envs_per_actor * config.unroll_length)


def replay_config_of(architecture: str, updates: int, fields: dict[str, Any]) -> Any:
    """An update for every unroll of all actors, from the second on."""
    own = {
        "gorila": {"pushes_per_visit": 1, "target_versions": 3, "actors_ahead": 0},
        "apex": {"params_interval": UNROLL, "actors_ahead": 0},
        "r2d2": {"params_interval": UNROLL, "actors_ahead": 0, "sequence_length": 6, "burn_in": 2, "batch_size": 2},
    }
    rows = fields["num_actors"] * fields["envs_per_actor"] * fields["unroll_length"]
    small = {"replay_start": rows, "batch_size": 8, "replay_ratio": 8 / rows, "n_step": 2, **own.get(architecture, {})}
    config = dataclasses.replace(registry.load(architecture).Config(), **small | fields)
    return dataclasses.replace(config, env_steps=(updates + 3) * rows)


def parts_of(architecture: str, config: Any, env: str = "", network: str = "auto") -> Parts:
    """Real parts on a real environment, one that suits the architecture if none is named."""
    env = env or (REAL_ENV if architecture in REAL else ENV)
    module, factory = registry.load(architecture), envs.resolve(env)
    return make_parts(module, config, factory, network)


def engine_named(name: str, order: str = "free", cluster: Any = None, **settings: Any) -> Engine:
    """An engine; one of nodes has two of its own, or those given."""
    return make_engine(name, order=order, cluster=(cluster or two_nodes()) if name == "ray" else None, **settings)


def run_small(
    architecture: str,
    engine: str,
    order: str = "free",
    updates: int = 20,
    parts: Any = None,
    cluster: Any = None,
    workers: int = 0,
    **fields: Any,
) -> Run:
    """The architecture's own `run`, on the named engine, for about `updates` updates."""
    module, config = registry.load(architecture), config_of(architecture, updates, **fields)
    run = Run(engine_named(engine, order, cluster), workers)
    run.engine.on_note = run.note
    parts = parts_of(architecture, config) if parts is None else parts
    if engine in IN_PROCESSES:
        run.engine.preload = preloads(parts.agent, module, config)
    run.engine.run(module.run, config, parts, None, run.visit)
    return run
