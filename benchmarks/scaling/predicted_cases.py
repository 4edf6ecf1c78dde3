# SPDX-License-Identifier: Apache-2.0
"""The cases of `benchmarks.scaling.predicted`: environments, architectures, layouts, and what peers start with."""

import dataclasses
from typing import Any, NamedTuple

from shoal.architectures import presets
from shoal.placement.workload import HARMLESS_RATE, endless
from shoal.types import Box

ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CartPole": ("CartPole-v1", {}),
    "Pong": ("ale:pong", {}),
    "HalfCheetah": ("HalfCheetah-v5", {}),
    "asleep 1 ms": ("toy:paced", {"step_s": 0.001}),
    "asleep 20 ms": ("toy:paced", {"step_s": 0.02}),
    "busy 1 ms": ("toy:paced", {"step_s": 0.001, "busy": True}),
    "heavy-tailed": ("toy:paced", {"step_s": 0.004, "spread": 1.5}),
}
SLOW = ("asleep 20 ms", "heavy-tailed")
"""environments of which a batch would take too long"""
ARCHITECTURES = ("a2c", "ppo", "impala", "appo", "seed", "a3c", "pg", "dqn", "apex", "sac")
ROWS, FEW_ROWS = 256, 64
"""of a batch in all layouts, or of what all actors hand over before anybody learns"""


class Layout(NamedTuple):
    """Where work runs."""

    engine: str
    actors: int
    envs: int
    """of each actor"""

    @property
    def name(self) -> str:
        """Such as threads 2x4."""
        return f"{self.engine} {self.actors}x{self.envs}"


ALONE = Layout("inline", 1, 8)
LAYOUTS = (
    Layout("threads", 2, 4), Layout("threads", 8, 1), Layout("processes", 2, 4), Layout("processes", 4, 2),
)  # fmt: skip
PEERS: dict[str, dict[str, Layout]] = {
    "ppo": {
        "Stable-Baselines3 (one environment in the loop)": Layout("inline", 1, 1),
        "CleanRL (four in the loop)": Layout("inline", 1, 4),
        "RLlib (two runners of one)": Layout("processes", 2, 1),
    },
    "appo": {
        "Sample Factory (a worker a core, two each)": Layout("processes", 2, 2),
        "RLlib (two runners of one)": Layout("processes", 2, 1),
    },
    "impala": {"RLlib (two runners of one)": Layout("processes", 2, 1)},
    "dqn": {"Stable-Baselines3 (one environment in the loop)": Layout("inline", 1, 1)},
    "sac": {"Stable-Baselines3 (one environment in the loop)": Layout("inline", 1, 1)},
}
"""layouts that peers start with where nothing is set, run here on shoal's own engines"""


class Case(NamedTuple):
    """One run to predict and to measure."""

    environment: str
    architecture: str
    layout: Layout
    peer: str | None = None

    @property
    def key(self) -> str:
        """What tells it from others."""
        return f"{self.environment} | {self.architecture} | {self.layout.name}"


def architectures_for(spec: Any) -> tuple[str, ...]:
    """Those that can take such actions: values of whole-number ones, or policies over numbers."""
    no = ("dqn", "apex") if isinstance(spec.action, Box) else ("sac",)
    return tuple(name for name in ARCHITECTURES if name not in no)


def cases_of(environment: str, architectures: tuple[str, ...]) -> list[Case]:
    """Every layout of every architecture, and what peers start with."""
    found: dict[str, Case] = {}
    for architecture in architectures:
        first = (ALONE,) if architecture in ("a2c", "ppo", "dqn", "sac") else ()
        cases = [Case(environment, architecture, layout) for layout in (*first, *LAYOUTS)]
        cases += [Case(environment, architecture, at, who) for who, at in PEERS.get(architecture, {}).items()]
        found |= {case.key: case for case in cases}
    return list(found.values())


def config_of(case: Case, spec: Any) -> Any:
    """A layout with batches of the same rows in all of them, whose policy stays what it is at the start."""
    layout, rows = case.layout, FEW_ROWS if case.environment in SLOW else ROWS
    changed: dict[str, Any] = {
        "num_actors": layout.actors, "envs_per_actor": layout.envs, "learning_rate": HARMLESS_RATE,
        "unroll_length": max(1, rows // (layout.actors * layout.envs)),
    }  # fmt: skip
    config = presets.preset(case.architecture, spec)
    fields = {
        "batch_trajectories": layout.actors, "queue_slots": 2 * layout.actors, "replay_start": 4 * rows,
        "minibatches": min(getattr(config, "minibatches", 1), 4), "pushes_per_visit": 4, "save_replay": False,
        "replay_capacity": 20_000,
    }  # fmt: skip
    changed |= {name: value for name, value in fields.items() if hasattr(config, name)}
    if hasattr(config, "n_step"):
        changed["n_step"] = min(config.n_step, changed["unroll_length"])
    if case.architecture == "apex":
        changed |= {"minibatches": config.minibatches, "params_interval": changed["unroll_length"]}
    return endless(dataclasses.replace(config, **changed))
