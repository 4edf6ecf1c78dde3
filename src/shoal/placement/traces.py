# SPDX-License-Identifier: Apache-2.0
"""What each phase of an architecture costs alone: its own `run` with its real agent and learner, all workers on one
thread, on environments that do nothing. What the environment takes is measured apart. Imports JAX.

    agent, learner, twin environments --> engine inline --> seconds and cores of every phase, at two sizes
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from shoal.engines import Engine, make_engine
from shoal.engines.clock import BLOCKS, Stopwatch, half_spread, measure, timed
from shoal.placement.episodes import USUAL, Lengths
from shoal.placement.profile import Curve, Point, Trace
from shoal.placement.twins import TwinEnv
from shoal.placement.unit_costs import rows_of
from shoal.placement.workload import HARMLESS_RATE, SEED, Workload
from shoal.types import EnvSpec

LEFT_OUT = 0.05
"""share of a phase's calls, the slowest, that do not count: other programs had the core then"""
TIMES = 4
"""how many times as many environments the other size has"""
FEWER = 8
"""with frames, how many times as few: preset actors then have one, for which acting is timed alone already"""
SETTLED = 2
"""updates before those that count: the first compile"""


def measure_trace(workload: Workload, lengths: Lengths = USUAL, seconds: float = 0.5) -> Trace:
    """Seconds of every phase of the workload's architecture, over its rows.

    Args:
      lengths: of episodes, which architectures that learn from whole episodes depend on.
      seconds: for each of two sizes; compiling comes on top.

    Check: phases add up to the time that the run took, less the engine's own.
    """
    points: dict[str, list[Point]] = defaultdict(list)
    configs = two_sizes(workload.config, frames=workload.spec.shows_frames)
    for config in configs:
        for name, point in phases_of(workload, config, lengths, seconds).items():
            points[name].append(point)
    return Trace(
        architecture=workload.architecture,
        envs_per_actor=workload.config.envs_per_actor,
        phases={name: curve_of(found) for name, found in points.items()},
    )


def two_sizes(config: Any, frames: bool) -> list[Any]:
    """The config with few environments an actor and with more, in growing order; its endings set for a short run."""
    usual = config.envs_per_actor
    other = TIMES * usual if not frames else max(1, usual // FEWER)
    short = {"save_replay": False, "replay_start": 1, "pushes_per_visit": 1, "batches_per_visit": 1}
    fields = {name: value for name, value in short.items() if hasattr(config, name)}
    fields["learning_rate"] = HARMLESS_RATE
    return [dataclasses.replace(config, envs_per_actor=size, **fields) for size in sorted({usual, other})]


def phases_of(workload: Workload, config: Any, lengths: Lengths, seconds: float) -> dict[str, Point]:
    """A point for every phase, by its name, at the rows of this config."""
    make_env = partial(twin_env, workload.spec, lengths)
    # of those that remember, batches are what the config says; all others take what comes
    remembers = hasattr(config, "replay_ratio")
    learner = workload.module.make_learner(config, workload.parts.agent) if remembers else workload.parts.learner
    parts = workload.parts._replace(make_env=make_env, learner=learner, origin=None, seed=SEED)
    engine = make_engine("inline")
    book = Book(engine, seconds)
    engine.around = book.around
    engine.run(workload.module.run, config, parts, None, book.visit)
    idle = measure(partial(step_once, make_env(config.envs_per_actor, 0), workload.spec), seconds=0.02).median_s
    found = {}
    for name, calls in book.calls.items():
        less = idle if name == "env_step" else 0.0
        found[name] = point_of(rows_of(name, config), calls, less)
    return found


def twin_env(spec: EnvSpec, lengths: Lengths, num_envs: int, first_index: int) -> TwinEnv:
    """Environments that do nothing."""
    return TwinEnv(spec, num_envs, first_index, lengths)


def step_once(env: TwinEnv, spec: EnvSpec) -> None:
    """What doing nothing takes."""
    env.send(spec.action.to_env(np.zeros((env.num_envs, *spec.action.shape), np.float32)))
    env.recv()


class Book:
    """Seconds of every phase's calls, from when all have been called until `seconds` later."""

    def __init__(self, engine: Engine, seconds: float):
        self.calls: dict[str, list[tuple[float, float]]] = defaultdict(list)
        """by phase: (seconds, processor seconds)"""
        self._engine, self._settling, self._seconds = engine, SETTLED, seconds
        self._watch: Stopwatch | None = None

    def around(self, _role: str, name: str, fn: Callable, args: tuple) -> Any:
        """Call a phase's function and note what it took."""
        value, *spent = timed(fn, args)
        self.calls[name].append((spent[0], spent[1]))
        return value

    def visit(self, state: Any, _batch: list, _metrics: dict[str, float]) -> Any:
        """Called after every update."""
        if self._watch is None:
            self._settling -= 1
            if self._settling <= 0:
                self._watch = Stopwatch()
                self.calls.clear()
        elif self._watch.seconds() >= self._seconds:
            self._engine.stop("measured")
        return state


def point_of(size: int, calls: list[tuple[float, float]], less: float) -> Point:
    """A phase's cost from its calls, without `less` seconds of each."""
    blocks = np.array_split(np.array(calls)[:, 0], min(len(calls), BLOCKS))
    spent, cpu = np.sort(np.array(calls), axis=0)[: max(1, round(len(calls) * (1 - LEFT_OUT)))].T
    return Point(
        size=size,
        calls=len(calls),
        median_s=max(1e-9, float(np.median(spent)) - less),
        mean_s=max(1e-9, float(spent.mean()) - less),
        p99_s=max(1e-9, float(np.quantile(spent, 0.99)) - less),
        cpu_s=max(1e-9, float(cpu.mean()) - less),
        delay_s=0.0,
        noise=half_spread([float(block.mean()) for block in blocks]),
    )


def curve_of(points: list[Point]) -> Curve:
    """Points over growing sizes; of several at one size the first."""
    by_size = {point.size: point for point in reversed(points)}
    return Curve(points=tuple(by_size[size] for size in sorted(by_size)))
