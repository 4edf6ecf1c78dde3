# SPDX-License-Identifier: Apache-2.0
"""A short stretch of an architecture's own `run`, real or in simulated time: the time split comes from its timers."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal.architectures.assemble import preloads
from shoal.architectures.base import Parts
from shoal.engines import Engine, Machine, make_engine
from shoal.engines.clock import BLOCKS, Usage, half_spread, undisturbed, usage
from shoal.placement.profile import Trial

SHORTEST_UNROLL = 8
"""steps below which unrolls are not cut"""
MOSTLY = 0.5
"""share of a run in which one core is busy from which on it counts as computing most of the time"""
LONG_START_S = 3.0
"""where lock-step took longer than this to its first update, the window opens at once: another would cost too much"""


class Arrangement(NamedTuple):
    """An architecture's settings and the engine to run them on."""

    architecture: str
    engine: str
    config: Any
    changed: dict[str, int]
    """fields in which the config departs from the preset"""
    same_learning: bool
    """the learner gets the same number of environments, steps and rows as with the preset"""


class Reading(NamedTuple):
    """The books at one moment."""

    now: float
    env_steps: int
    phases: dict[str, dict[str, float]]
    usage: Usage
    rows: list[dict[str, Any]]


class Window:
    """Opens once compiling and what piled up meanwhile are over; closes `seconds` later.

    Args:
      config: it says how many updates to let pass.
      updates: the most to count.
    """

    def __init__(self, engine: Engine, config: Any, *, seconds: float, updates: int):
        self.engine, self.config, self.seconds, self.limit = engine, config, seconds, updates
        self.settling = settling(config)
        self.first: Reading | None = None
        self.last: Reading | None = None
        self.updates = 0
        self.lags: list[float] = []
        self._marks: list[tuple[float, int]] = []

    def visit(self, state: Any, batch: list, metrics: dict[str, float]) -> Any:
        """Called after every update."""
        now = self.engine.now()
        if self.first is None:
            if not learns(self.config, state):
                return state
            self.settling -= 1
            lock_step = bool(batch) and all(item.version[0] == state.version - 1 for item in batch)
            if self.settling <= 0 or (lock_step and now > LONG_START_S):
                self.first = self._read(now, state)
                self._marks = [(now, state.env_steps)]
            return state
        self.updates += 1
        self._marks.append((now, state.env_steps))
        # the state's version already counts the publish that this update led to
        self.lags += [float(state.version - 1 - item.version[0]) for item in batch]
        over = now - self.first.now >= self.seconds or self.updates >= self.limit
        if over and self.last is None:
            self.last = self._read(now, state)
            self.engine.stop("measured")
        return state

    def _read(self, now: float, state: Any) -> Reading:
        return Reading(now, state.env_steps, self.engine.phases(), usage(), self.engine.rows())

    def noise(self) -> float | None:
        """`half_spread` of the steps a second in a few blocks of updates; None of fewer than two updates."""
        marks = self._marks
        ends = sorted({(len(marks) - 1) * block // BLOCKS for block in range(BLOCKS + 1)})
        pairs = [(marks[a], marks[b]) for a, b in itertools.pairwise(ends)]
        return half_spread([(steps - before) / (now - then) for (then, before), (now, steps) in pairs])


def run_trial(
    arrangement: Arrangement,
    module: Any,
    parts: Parts,
    *,
    seconds: float = math.inf,
    updates: int = 10**9,
    costs: dict[str, Any] | None = None,
    machine: Callable[[], Machine] | None = None,
) -> Trial:
    """Run an architecture for some seconds or updates after it has settled.

    Args:
      costs: work by phase; with them it is predicted on the simulated engine rather than run.
      machine: what workers share then.

    Raises:
      RoleFailed: the environment failed in a worker.
    """
    engine = make_engine(arrangement.engine if costs is None else "simulated", costs=costs, machine=machine)
    config = arrangement.config
    if engine.name == "processes":
        engine.preload = preloads(parts.agent, module, config)
    window = Window(engine, config, seconds=seconds, updates=updates)
    engine.run(module.run, config, parts, None, window.visit)
    if window.first is None or window.last is None:
        raise AssertionError(f"{arrangement.architecture} ended before it was measured")
    first, last = window.first, window.last
    wall = last.now - first.now
    cpu, delay = last.usage.cpu_s - first.usage.cpu_s, last.usage.delay_s - first.usage.delay_s
    alone = wall if costs is not None else without_others(arrangement.engine, wall, cpu, delay)
    return Trial(
        architecture=arrangement.architecture,
        engine=arrangement.engine,
        simulated=costs is not None,
        settings=layout(config),
        changed=arrangement.changed,
        same_learning=arrangement.same_learning,
        passes=passes(config),
        wall_s=wall,
        alone_s=alone,
        env_steps=last.env_steps - first.env_steps,
        updates=window.updates,
        phases=_difference(last.phases, first.phases),
        lag_mean=sum(window.lags) / len(window.lags) if window.lags else lag_between(first.rows, last.rows),
        noise=None if costs is not None else window.noise(),
    )


def without_others(engine: str, wall_s: float, cpu_s: float, delay_s: float) -> float:
    """Seconds of a run had no other program used the cores.

    Many workers on threads delay one another: where they mostly wait, what others took cannot be told.
    """
    if engine != "inline" and cpu_s < MOSTLY * wall_s:
        return wall_s
    return undisturbed(wall_s, cpu_s, delay_s)


def shorten(arrangement: Arrangement, batch_s: float, seconds: float) -> Arrangement:
    """The arrangement with unrolls cut so that a batch that takes `batch_s` takes about `seconds`; collecting and
    learning shrink alike. Left as it is where a batch takes less."""
    length = arrangement.config.unroll_length
    cut = max(min(SHORTEST_UNROLL, length), int(length * seconds / batch_s))
    return arrangement._replace(config=dataclasses.replace(arrangement.config, unroll_length=min(length, cut)))


def settling(config: Any) -> int:
    """Updates before the pace is steady: one that compiles, then what actors had ready while it did, at least one."""
    ready = config.queue_slots + config.num_actors if hasattr(config, "queue_slots") else 1
    return 1 + math.ceil(ready / batch_trajectories(config))


def learns(config: Any, state: Any) -> bool:
    """Whether anything is learnt by now: a replay memory fills up first."""
    return state.env_steps >= getattr(config, "replay_start", 0)


def batch_trajectories(config: Any) -> int:
    """Trajectories in one batch: in lock-step, one of every actor, but for those that are not waited for."""
    in_step = getattr(config, "trajectories_per_update", config.all_actors)
    return getattr(config, "batch_trajectories", in_step)


def lag_between(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> float:
    """Mean lag of the messages that came between two looks at a ledger; 0 where none has one.

    Check: of one look at an empty ledger and one at a row, that row's mean.
    """
    total = count = 0.0
    for rows, sign in ((before, -1.0), (after, 1.0)):
        for row in rows:
            if row["lag_mean"] is not None:
                total += sign * row["count"] * row["lag_mean"]
                count += sign * row["count"]
    return total / count if count > 0 else 0.0


def passes(config: Any) -> int:
    """How often the learner goes through a batch."""
    return getattr(config, "epochs", 1)


def layout(config: Any) -> dict[str, int]:
    """The settings that say where work runs and how much of it at a time."""
    names = ("num_actors", "envs_per_actor", "unroll_length")
    return {name: getattr(config, name) for name in names} | {"batch_trajectories": batch_trajectories(config)}


def _difference(after: dict[str, dict[str, float]], before: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        role: {name: seconds - before.get(role, {}).get(name, 0.0) for name, seconds in timers.items()}
        for role, timers in after.items()
    }
