# SPDX-License-Identifier: Apache-2.0
"""A profile: what was measured on one machine for one environment and network, as data and as a JSON file."""

import dataclasses
import json
import math
import tempfile
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shoal.engines.clock import undisturbed
from shoal.errors import CheckpointError, ConfigError
from shoal.placement.lines import Line, fit_line
from shoal.placement.messages import Passing, Relayed
from shoal.records.files import replace_json
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete

COMPUTES = 0.5
"""cores from which on a thread counts as computing"""
VERSION = 5
"""of the file's form; raised whenever a reader of the old form would misread the new one"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one call costs at one size, in seconds."""

    size: int
    """environments of an environment step, observations of an inference, rows of an update, bytes of a transfer"""
    calls: int
    median_s: float
    mean_s: float
    p99_s: float
    cpu_s: float
    """processor time over all cores, per call"""
    delay_s: float
    """per call, over all threads: ready to run while other programs had the cores"""
    noise: float | None
    """how well measuring again agrees, as a share of the seconds; None of a single call"""

    @property
    def cores(self) -> float:
        """Cores that a call keeps busy, or would if other programs left them."""
        return (self.cpu_s + self.delay_s) / self.mean_s

    @property
    def disturbed(self) -> float:
        """Share of the time it wanted cores in which other programs had them."""
        return self.delay_s / max(self.cpu_s + self.delay_s, 1e-12)

    @property
    def idle(self) -> float:
        """Share of the call in which no thread of this process had anything to compute: it waited for something."""
        return max(0.0, 1.0 - self.cores)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One kind of call over several sizes, in growing order."""

    points: tuple[Point, ...]

    def line(self) -> Line:
        """seconds = a + b * size."""
        return fit_line([(p.size, self.seconds(p)) for p in self.points])

    def seconds(self, point: Point) -> float:
        """Seconds of a mean call had no other program used the cores."""
        return undisturbed(point.mean_s, point.cpu_s, point.delay_s)

    def at(self, size: int) -> float:
        """Seconds at a size: on straight lines between the measured ones, from the fitted line beyond them."""
        sizes = [p.size for p in self.points]
        if sizes[0] <= size <= sizes[-1]:
            return float(np.interp(size, sizes, [self.seconds(p) for p in self.points]))
        return self.line().at(size)

    def cpu_at(self, size: int) -> float:
        """Processor seconds at a size, over all cores."""
        point = self.near(size)
        return self.at(size) * point.cpu_s / self.seconds(point)

    def cores_at(self, size: int) -> float:
        """Cores that a call of this size really keeps busy."""
        return self.cpu_at(size) / self.at(size)

    def times(self, factor: float) -> "Curve":
        """The same calls, each so many times as long."""
        names = ("median_s", "mean_s", "p99_s", "cpu_s", "delay_s")
        return Curve(
            points=tuple(dataclasses.replace(p, **{n: factor * getattr(p, n) for n in names}) for p in self.points)
        )

    def near(self, size: int) -> Point:
        """The point measured at the size nearest to this one."""
        return min(self.points, key=lambda p: abs(p.size - size))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A few seconds of one architecture on a real engine, compiling left out."""

    architecture: str
    engine: str
    simulated: bool
    """predicted in virtual time from the costs of the parts, not run"""
    settings: dict[str, int]
    """the Config fields that say where work runs and how much of it at a time; where a batch takes too long the run
    itself has shorter unrolls"""
    changed: dict[str, int]
    """of these, the ones that differ from the preset"""
    same_learning: bool
    """the learner gets the same environments, steps and rows in a batch as with the preset"""
    passes: int
    """how often the learner goes through each batch"""
    wall_s: float
    alone_s: float
    """the same without what other programs took"""
    env_steps: int
    updates: int
    """batches trained on"""
    phases: dict[str, dict[str, float]]
    """seconds by role and phase, summed over workers; the rest of a worker's time it waited"""
    lag_mean: float | None
    noise: float | None
    """how well another run agrees, as a share of steps a second; None where there were too few updates to tell, or none
    was run"""

    @property
    def env_steps_per_s(self) -> float:
        """Agent steps received by the learner in a second."""
        return self.env_steps / self.alone_s

    @property
    def workers(self) -> dict[str, int]:
        """Workers by role."""
        return {"actor": self.settings["num_actors"], "learner": 1}

    @property
    def rows(self) -> int:
        """Environment steps in one batch."""
        s = self.settings
        return s["batch_trajectories"] * s["envs_per_actor"] * s["unroll_length"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What every phase of one architecture costs alone, by its name; of environment steps what comes on top of them."""

    architecture: str
    envs_per_actor: int
    """that it has usually"""
    phases: dict[str, Curve]
    """over rows: of an unroll, of a batch, or 1 where the cost is the same always"""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Whether threads of one process step environments faster than one thread does."""

    threads: int
    alone_per_s: float
    """vector steps a second of one thread, measured right before the following"""
    together_per_s: float
    """vector steps a second of all threads, each with environments of its own"""
    alone_cores: float
    """cores that the one thread kept busy"""
    cores: float
    """cores that all threads kept busy"""

    @property
    def gain(self) -> float:
        """How many times as fast the threads are. Where they compute, no more than they kept more cores busy: a
        processor's pace differs between two moments by more than that."""
        rates = self.together_per_s / self.alone_per_s
        computes = self.alone_cores >= COMPUTES
        return min(rates, max(1.0, self.cores / self.alone_cores)) if computes else rates


@dataclass(frozen=True, kw_only=True)
class InStep:
    """Updates of two learners in step, which sum their gradients in every step, beside those of one that has a share of
    the rows as they do and nobody beside it."""

    architecture: str
    steps: int
    """gradient steps in each of these updates"""
    alone: Point
    devices: Point
    """of one process, a learner on each"""
    processes: Point
    """a learner in each, and collectives over the network between them"""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Arithmetic of the network and its loss, as XLA counts it before it fuses anything: the same on every machine."""

    act: float
    """floating-point operations to act on one observation"""
    act_bytes: float
    """read and written for it, but for the weights; fused, it would be about half"""
    gradient: float
    """the same for one row of the loss's gradient"""
    gradient_bytes: float


@dataclass(frozen=True, kw_only=True)
class EnvFacts:
    """What was measured on."""

    id: str
    settings: dict[str, Any]
    obs: dict[str, ArraySpec]
    """the arrays of an observation by their paths in it, such as camera/0; an observation that is one array has none"""
    action: Literal["discrete", "multi_discrete", "box"]
    action_sizes: tuple[int, ...]
    """actions of each choice, or the number of numbers in a box"""
    named: bool
    """another process can make it by its name"""

    @property
    def obs_bytes(self) -> int:
        """Bytes of one observation."""
        return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in self.obs.values())

    @property
    def obs_words(self) -> str:
        """An observation's form for people."""
        forms = {path: f"{list(leaf.shape)} {leaf.dtype}" for path, leaf in self.obs.items()}
        return ", ".join(f"{path} {form}" if path else form for path, form in forms.items())

    def spec(self) -> EnvSpec:
        """The form of the environment, with actions on the unit scale and nested observations laid flat.

        Check: observations weigh what those of the environment's own spec do.
        """
        kinds = {"discrete": lambda n: Discrete(n), "multi_discrete": lambda *sizes: MultiDiscrete(sizes)}
        make = kinds.get(self.action, lambda n: Box((n,), (-1.0,) * n, (1.0,) * n))
        return EnvSpec(self.id, self.obs.get("", self.obs), make(*self.action_sizes))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything measured. Written, read and compared whole; decisions are made from it and from nothing else."""

    version: int
    shoal: str
    hardware: dict[str, Any]
    env: EnvFacts
    network: str
    params: int
    """numbers in the network"""
    flops: Flops
    architecture: str
    """whose learner the update and the estimate are"""
    env_step: Curve
    env_reset: Point
    valid_frac: float
    """share of environment steps that were agent steps; the others only reset"""
    episode_spread: float
    """deviation of the logarithm of episodes' lengths; 0 where too few ended to tell"""
    env_beside: Beside
    acting_beside: Beside
    """of acting and stepping by turns, which is what actors do: Python's lock changes hands between the two"""
    inference: dict[str, Curve]
    """by where it ran: numpy, cpu, gpu, ..."""
    update: dict[str, Curve]
    """by device platform, over rows"""
    estimate: Point
    """advantages or V-trace of one batch alone, over rows; a part of the update"""
    transfer: dict[str, Curve]
    """to each platform but the CPU, over bytes"""
    copy: Point
    """one thread copies so many bytes of memory, more than caches hold"""
    crowding: float
    """times as long that a process computes while others compute on all other cores"""
    traces: tuple[Trace, ...]
    """of the architectures that were asked for"""
    passing: dict[str, Passing]
    """by engine: threads, processes"""
    trials: tuple[Trial, ...]
    disturbed: float
    """share of the cores that other programs used meanwhile"""
    measured_s: float
    relayed: Relayed | None = None
    """messages of the engine ray; None where they were not asked for, as in profiles older than them"""
    in_step: InStep | None = None
    """the same of learners in step"""

    @property
    def cores(self) -> float:
        """Cores this process may use."""
        return float(self.hardware["usable_cores"])

    def trace_of(self, architecture: str) -> Trace | None:
        """Costs of an architecture's phases; None where they were not measured."""
        return next((trace for trace in self.traces if trace.architecture == architecture), None)

    @property
    def copy_bytes_per_s(self) -> float:
        """Bytes of memory that one thread copies in a second."""
        return self.copy.size / Curve(points=(self.copy,)).seconds(self.copy)

    @property
    def accelerators(self) -> list[str]:
        """Platforms other than the CPU that were measured."""
        return [name for name in self.update if name != "cpu"]


def check_writable(path: Path) -> None:
    """Raise ConfigError now rather than after measuring if a profile could not be written here."""
    reason = "it is a folder" if path.is_dir() else None
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
    if reason:
        raise ConfigError(f"--json {path} cannot be written: {reason}; name a file in a folder you can write to")


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile as JSON; a reader sees the old file or the new one, never half of one.

    Check: `read_profile` gives back an equal profile.
    """
    try:
        replace_json(path, profile)
    except CheckpointError as fault:
        raise ConfigError(str(fault).partition(";")[0] + "; name a file in a folder you can write to") from fault


def read_profile(path: Path) -> Profile:
    """A profile from its file.

    Raises:
      ConfigError: not there, not a profile, or of another version.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as fault:
        raise ConfigError(f"profile {path} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    except ValueError as fault:
        raise ConfigError(f"profile {path} is no JSON ({fault}); measure again with shoal advise --json") from None
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        what = "no profile" if version is None else f"a profile of form {version}"
        raise ConfigError(f"{path} is {what}, this shoal reads form {VERSION}; measure again with shoal advise --json")
    try:
        return _build(Profile, data)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        reason = f"{type(fault).__name__}: {fault}"
        raise ConfigError(f"profile {path} is damaged ({reason}); measure again with shoal advise --json") from None


def _build(kind: Any, data: Any) -> Any:
    """A value of an annotated type from what JSON made of it."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        # what was added later without misleading older readers has a default
        given = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING or f.name in data]
        return kind(**{name: _build(hints[name], data[name]) for name in given})  # type: ignore[operator]
    if origin in (types.UnionType, typing.Union):
        return None if data is None else _build(args[0], data)
    if origin is tuple:
        kinds = args if args[-1] is not ... else (args[0],) * len(data)
        return tuple(_build(kind, item) for kind, item in zip(kinds, data, strict=True))
    if origin is dict:
        return {key: _build(args[1], item) for key, item in data.items()}
    if kind in (int, float, str):
        return kind(data)
    return data
