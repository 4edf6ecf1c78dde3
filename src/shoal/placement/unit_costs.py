# SPDX-License-Identifier: Apache-2.0
"""What phases cost in virtual time, by what was measured of the parts: seconds, and what they take of what workers
share. Needs no JAX.

    profile --> Work of an environment step, an inference, an update --> costs by phase --> simulated engine
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from shoal.actors.samplers import way_of
from shoal.agents.lessons import CriticLesson, PolicyLesson
from shoal.architectures import presets
from shoal.engines import Work
from shoal.placement.episodes import Lengths
from shoal.placement.in_step_costs import devices_of, shares_of, summing_s
from shoal.placement.message_costs import passed
from shoal.placement.profile import COMPUTES, Curve, Point, Profile, Trace
from shoal.placement.trial import batch_trajectories, passes
from shoal.types import Trajectory

HOSTS = ("numpy", "cpu")
"""where acting runs without an accelerator"""
TURNS = 1.9
"""gain of two threads from which on they are taken to hold no lock"""


def costs(  # noqa: PLR0913 - everything that a cost depends on
    profile: Profile,
    config: Any,
    architecture: str | None = None,
    *,
    engine: str = "processes",
    speed: float = 1.0,
    env_times: float = 1.0,
    seed: int = 0,
    nodes: int = 1,
) -> dict[str, Any]:
    """Work of each phase, and of each message.

    Args:
      architecture: whose phases they are; those that the profile holds no trace of cost what its own learner's do.
      engine: on which messages pass.
      speed: of a core, beside those that were measured.
      env_times: seconds of an environment step, beside those that were measured.
      seed: of how long single steps take, where they were measured to differ.
      nodes: that share actors, on the engine ray.

    Check: with one actor in lock-step, a batch takes the sum of its parts.
    """
    trace = None if architecture is None else profile.trace_of(architecture)
    uneven = Uneven(spread_of(profile.env_step.near(config.envs_per_actor)), seed)
    groups = 2 if way_of(config) == "alternating" else 1
    together = config.envs_per_actor // groups
    host, acting = acting_of(profile, trace, together)
    step = in_turn(1, work_at(profile.env_step, together, speed / env_times, share_in_python(profile)),
                   storing_of(trace, config, speed))  # fmt: skip

    acted = work_at(acting, together, speed, IN_PYTHON[host])
    handing = handing_of(profile, together) / speed
    alone, unroll = acted._replace(handing=handing), in_turn(config.unroll_length * groups, acted, step)

    def act(*args: Any) -> Work:
        if not isinstance(args[0], list):
            return alone
        return served_work(profile, trace, len(args[0]), config, speed)._replace(handing=handing)

    return {
        **traced(profile, trace, config, speed),
        **learnt(profile, trace, config, speed),
        **passed(profile, config, engine, speed, nodes),
        "act": act,
        "env_step": lambda *_: uneven.once(step),
        "rollout": lambda *_: uneven.summed(unroll, config.unroll_length),
        "*": 0.0,
    }


def traced(profile: Profile, trace: Trace | None, config: Any, speed: float) -> dict[str, Work | Callable[..., Work]]:
    """Phases at the seconds that they took alone."""
    if trace is None:
        return {}
    found = {}
    for name, curve in trace.phases.items():
        shares, devices = (shares_of(config), devices_of(config)) if name == "update" else (1, 1)
        python = IN_XLA if name in COMPILED else 1.0
        if name in BY_EPISODES and trace.architecture == "pg":
            found[name] = partial(by_episodes, curve, speed, python)
            continue
        rows = max(1, rows_of(name, config) // shares)
        work = work_at(curve, rows, speed, python)
        if name == "update" and not hasattr(config, "replay_ratio"):
            work = work._replace(seconds=update_of(profile, trace.architecture, curve, config, rows) / speed)
        summing = summing_s(profile, config) / speed if name == "update" else 0.0
        found[name] = work._replace(seconds=work.seconds + summing, idle=0.0, cores=devices * work.cores)
    return found


def by_episodes(curve: Curve, speed: float, python: float, *args: Any) -> Work:
    """What a phase of `pg` costs on the batch that it is called with, whose longest episode says how many rows it
    has."""
    rows = next(lesson_rows for lesson_rows in map(rows_in, args) if lesson_rows)
    return work_at(curve, rows, speed, python)._replace(idle=0.0)


def rows_in(given: Any) -> int:
    """Rows of a trajectory, or of a lesson about one; 0 of anything else."""
    made = given[0] if isinstance(given, PolicyLesson | CriticLesson) else given
    return made.reward.size if isinstance(made, Trajectory) else 0


def update_of(profile: Profile, architecture: str, curve: Curve, config: Any, rows: int) -> float:
    """Seconds of an update over so many rows, from a curve of the architecture's preset: every pass costs the same, and
    of a pass the fixed part once for each of its minibatches.

    Check: of the preset itself, the curve.
    """
    preset = presets.preset(architecture, profile.env.spec())
    pieces = getattr(config, "minibatches", 1) / getattr(preset, "minibatches", 1)
    per_row = curve.line().per_item_s * rows
    one = max(per_row, curve.at(rows) + (pieces - 1.0) * curve.line().fixed_s)
    return one * passes(config) / passes(preset)


def learnt(profile: Profile, trace: Trace | None, config: Any, speed: float) -> dict[str, Work]:
    """Assembling and updates where no trace has them, or where the learner alone was measured at more sizes."""
    found = {}
    if trace is None:
        rows = config.envs_per_actor * config.unroll_length
        found["assemble"] = Work(overhead_per_row(profile) * rows / speed, python=1.0)
    if trace is None or trace.architecture == profile.architecture:
        work = update_work(profile, config, max(1, batch_rows(config) // shares_of(config)), speed)
        summing = summing_s(profile, config) / speed
        found["update"] = work._replace(seconds=work.seconds + summing, cores=devices_of(config) * work.cores)
    return found


def handing_of(profile: Profile, together: int) -> float:
    """Seconds that a step of an actor takes longer where others want the interpreter: what two threads that act and
    step took for one step of both, beyond the part of it that holds the lock alone, in proportion to how long a step
    of so many environments takes."""
    beside = profile.acting_beside
    if beside.alone_cores < COMPUTES or beside.together_per_s >= TURNS * beside.alone_per_s:
        return 0.0
    acting, stepping = best_inference(profile, together), profile.env_step.at(together)
    held = (acting + share_in_python(profile) * stepping) / (acting + stepping)
    return max(0.0, beside.alone_per_s / beside.together_per_s - held) * (acting + stepping)


ONCE = ("start", "publish", "push", "exchange", "step")
"""phases that cost the same whatever the rows"""
BY_EPISODES = ("gradient", "returns")
"""phases over batches of whole episodes"""
COMPILED = ("update", "gradient")
"""phases that XLA computes"""
IN_XLA = 0.1
"""share of these that holds the interpreter: launching, and bringing results to the host"""


def rows_of(phase: str, config: Any) -> int:
    """Rows that one call of a phase is over, or environments of a step; 1 where their number changes nothing."""
    if phase in ONCE:
        return 1
    if phase in ("act", "env_step"):
        return config.envs_per_actor * getattr(config, "requests", 1)
    if phase in ("draw", "prioritise") or (phase == "update" and hasattr(config, "replay_ratio")):
        return config.rows_per_message
    if phase == "update":
        return batch_rows(config)
    if phase == "gradient" and hasattr(config, "replay_ratio"):
        return config.batch_size
    return config.envs_per_actor * config.unroll_length


def acting_of(profile: Profile, trace: Trace | None, together: int) -> tuple[str, Curve]:
    """Where acting runs without an accelerator, and what it costs: over sizes as the network does, and as much more as
    the architecture's way of acting took."""
    host, curve = host_curve(profile, together)
    seen = None if trace is None else trace.phases.get("act")
    if seen is None:
        return host, curve
    point = seen.near(together)
    return host, curve.times(point.mean_s / curve.at(point.size))


def served_work(profile: Profile, trace: Trace | None, requests: int, config: Any, speed: float) -> Work:
    """Acting for so many requests, each of an actor's environments: the network over all of them, and for each request
    as much bookkeeping as it took where it was traced, one request of every actor of the preset."""
    host, curve = host_curve(profile, requests * config.envs_per_actor)
    work = work_at(curve, requests * config.envs_per_actor, speed, IN_PYTHON[host])
    seen = None if trace is None else trace.phases.get("act")
    if trace is None or seen is None:
        return work
    preset = presets.preset(trace.architecture, profile.env.spec())
    rows = preset.requests * preset.envs_per_actor
    each = max(0.0, seen.at(rows) - host_curve(profile, rows)[1].at(rows)) / preset.requests
    return in_turn(1, work, Work(requests * each / speed, python=1.0))


def storing_of(trace: Trace | None, config: Any, speed: float) -> Work:
    """What an actor does with a step besides making it."""
    curve = None if trace is None else trace.phases.get("env_step")
    if curve is None:
        return Work(0.0)
    return work_at(curve, config.envs_per_actor, speed, 1.0)._replace(idle=0.0)


IN_PYTHON = {"numpy": 1.0, "cpu": 0.2}
"""share of a call of acting that holds the interpreter: NumPy on small arrays all of it; of JAX, the launch"""


def episode_lengths(profile: Profile) -> Lengths:
    """Steps of an episode by which the share of steps that only reset is the one that was measured, and how much
    episodes differ."""
    resets = 1.0 - profile.valid_frac
    if resets <= 1e-9:
        return Lengths(10**9)
    return Lengths(max(1, round(profile.valid_frac / resets)), profile.episode_spread)


def work_at(curve: Curve, size: int, speed: float, python: float) -> Work:
    """A call of a size: what it waits for comes first, and is not sped up by a faster core."""
    seconds, cores = curve.at(size), curve.cores_at(size)
    idle = seconds * max(0.0, 1.0 - cores)
    return Work(idle + (seconds - idle) / speed, idle, max(1.0, cores), python)


EVEN = 0.05
"""spread below which steps are taken to last equally long: that much comes from measuring"""
P99 = 2.326
"""deviations of a normal distribution below which 99% lie"""


def spread_of(point: Point) -> float:
    """Deviation of the logarithm of a call's seconds, from its median and its 99th percentile, as if log-normal; 0
    where calls last equally long.

    Check: of log-normal times, the deviation that they were drawn with.
    """
    sigma = math.log(max(1.0, point.p99_s / point.median_s)) / P99
    return sigma if sigma >= EVEN else 0.0


class Uneven:
    """Work that takes longer at some times than at others, log-normal around the same mean.

    Check: the mean of many is the mean of the work.
    """

    def __init__(self, sigma: float, seed: int):
        self._sigma = sigma
        self._draws = draws(seed)
        self._of_sum = lru_cache(1)(partial(sigma_of_sum, sigma))

    def once(self, work: Work) -> Work:
        """One call."""
        return self._scaled(work, self._sigma)

    def summed(self, work: Work, times: int) -> Work:
        """So many calls in a row, given as one work: their sum is nearly log-normal, and differs less."""
        return self._scaled(work, self._of_sum(times))

    def _scaled(self, work: Work, sigma: float) -> Work:
        if not sigma:
            return work
        factor = math.exp(sigma * next(self._draws) - sigma**2 / 2)
        seconds, idle, cores, python, device, handing, server, near = work
        return Work(seconds * factor, idle * factor, cores, python, device, handing, server, near)


def sigma_of_sum(sigma: float, times: int) -> float:
    """Deviation of the logarithm of a sum of so many log-normal times."""
    return math.sqrt(math.log1p(math.expm1(sigma**2) / times))


BLOCK = 256
"""numbers drawn at a time: one by one each costs several times as much"""


def draws(seed: int) -> Iterator[float]:
    """Normal numbers without end, the same as if they were drawn one by one."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.standard_normal(BLOCK).tolist()


def in_turn(times: int, *works: Work) -> Work:
    """Several works again and again as one; what each waits for comes first."""
    seconds, idle = sum(work.seconds for work in works), sum(work.idle for work in works)
    busy = max(seconds - idle, 1e-12)
    cores = sum((work.seconds - work.idle) * work.cores for work in works) / busy
    python = sum((work.seconds - work.idle) * work.python for work in works) / busy
    return Work(times * seconds, times * idle, cores, python)


def update_work(profile: Profile, config: Any, rows: int, speed: float = 1.0) -> Work:
    """One update over so many rows by the learner that was measured alone; XLA holds no interpreter while it
    computes."""
    curve = profile.update["cpu"]
    seconds = update_of(profile, profile.architecture, curve, config, rows)
    return Work(seconds / speed, cores=max(1.0, min(curve.cores_at(rows), profile.cores)))


def share_in_python(profile: Profile) -> float:
    """Share of an environment step's computing that holds the interpreter, from how much faster two threads were: a
    step that holds it for a share p allows 1 / p times the steps of one thread at most."""
    gain = profile.env_beside.gain
    return 0.0 if gain >= TURNS else min(1.0, 1.0 / max(gain, 1e-9))


def host_curve(profile: Profile, batch: int) -> tuple[str, Curve]:
    """Where acting on a batch costs least without an accelerator."""
    hosts = {name: curve for name, curve in profile.inference.items() if name in HOSTS}
    name = min(hosts, key=lambda key: hosts[key].at(batch))
    return name, hosts[name]


def best_inference(profile: Profile, batch: int) -> float:
    """Seconds to act on a batch on the host's own processor."""
    return host_curve(profile, batch)[1].at(batch)


def overhead_per_row(profile: Profile) -> float:
    """Seconds an actor spends per environment step beside acting and stepping, from the runs; 0 without one."""
    per_row = []
    for trial in profile.trials:
        actor = trial.phases.get("actor", {})
        per_row.append((actor.get("prepare", 0.0) + actor.get("assemble", 0.0)) / max(1, trial.env_steps))
    return min(per_row, default=0.0)


def batch_rows(config: Any) -> int:
    """Environment steps in one batch."""
    return batch_trajectories(config) * config.envs_per_actor * config.unroll_length


def update_seconds(profile: Profile, times: int, rows: int) -> float:
    """Seconds of one update on the CPU that goes `times` times through its rows; scaled from the measured learner."""
    return profile.update["cpu"].at(rows) * update_scale(profile, times)


def update_scale(profile: Profile, times: int) -> float:
    """An update that goes `times` times through its rows, over one of the measured learner."""
    return times / passes(presets.preset(profile.architecture, profile.env.spec()))
