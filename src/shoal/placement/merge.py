# SPDX-License-Identifier: Apache-2.0
"""One profile out of several measurements of the same environment and network on the same machine. Needs no JAX.

profiles --> same machine, versions, environment, network? --> means weighted by calls --> one profile
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from shoal.engines.clock import half_spread
from shoal.errors import ConfigError
from shoal.placement.bounds import usual_step
from shoal.placement.compare import machine_facts
from shoal.placement.layouts import key_of
from shoal.placement.messages import Passing, Relayed
from shoal.placement.profile import Beside, Curve, InStep, Point, Profile, Trace, Trial


def merge(profiles: Sequence[Profile]) -> Profile:
    """All of them as one: points of the same size are averaged by their calls, runs of the same layout are added up;
    sizes, platforms and runs that only some have are taken over.

    Raises:
      ConfigError: they are of different machines, versions, environments, networks or learners.

    Check: merged with itself, a profile has the same seconds; the order of merging doesn't matter to them.
    """
    for other in profiles[1:]:
        check_same(profiles[0], other)
    first = profiles[0]
    devices = {str(device): device for one in profiles for device in one.hardware.get("devices", [])}
    by_steps = [float(usual_step(one).calls) for one in profiles]
    return replace(
        first,
        hardware=first.hardware | {"devices": list(devices.values())},
        env_step=merge_curves([one.env_step for one in profiles]),
        env_reset=merge_points([one.env_reset for one in profiles]),
        valid_frac=mean([one.valid_frac for one in profiles], by_steps),
        episode_spread=mean([one.episode_spread for one in profiles], by_steps),
        env_beside=merge_beside([one.env_beside for one in profiles], by_steps),
        acting_beside=merge_beside([one.acting_beside for one in profiles], by_steps),
        inference=merge_named([one.inference for one in profiles]),
        update=merge_named([one.update for one in profiles]),
        estimate=merge_points([one.estimate for one in profiles]),
        transfer=merge_named([one.transfer for one in profiles]),
        copy=merge_points([one.copy for one in profiles]),
        traces=merge_traces([trace for one in profiles for trace in one.traces]),
        crowding=mean([one.crowding for one in profiles], [1.0] * len(profiles)),
        passing=merge_passing([one.passing for one in profiles]),
        relayed=merge_relayed([one.relayed for one in profiles if one.relayed is not None]),
        in_step=merge_in_step([one.in_step for one in profiles if one.in_step is not None]),
        trials=merge_trials([trial for one in profiles for trial in one.trials]),
        disturbed=mean([one.disturbed for one in profiles], [one.measured_s for one in profiles]),
        measured_s=sum(one.measured_s for one in profiles),
    )


def check_same(a: Profile, b: Profile) -> None:
    """Raise ConfigError in one line unless both measured the same."""
    pairs: list[tuple[str, Any, Any]] = [
        ("environment", a.env.id, b.env.id),
        ("environment's settings", a.env.settings, b.env.settings),
        ("environment's form", form_of(a), form_of(b)),
        ("network", (a.network, a.params), (b.network, b.params)),
        ("--arch", a.architecture, b.architecture),
        ("resets are", a.env_reset.size, b.env_reset.size),
        ("estimates are", a.estimate.size, b.estimate.size),
        ("copies are", a.copy.size, b.copy.size),
    ]
    mine, other = machine_facts(a.shoal, a.hardware), machine_facts(b.shoal, b.hardware)
    pairs += [(what, mine.get(what), other.get(what)) for what in mine | other]
    for what, one, two in pairs:
        if one != two:
            raise ConfigError(
                f"profiles cannot be merged: {what} {one} in one, {two} in another; merge measurements of the same, or "
                "look at them with --compare"
            )


def form_of(profile: Profile) -> str:
    """Observations and actions in words."""
    return f"{profile.env.obs_words} with actions {profile.env.action} {list(profile.env.action_sizes)}"


def merge_named(several: Sequence[dict[str, Curve]]) -> dict[str, Curve]:
    """Curves by name; those that only some have as they are."""
    names = list(dict.fromkeys(name for curves in several for name in curves))
    return {name: merge_curves([curves[name] for curves in several if name in curves]) for name in names}


def merge_curves(curves: Sequence[Curve]) -> Curve:
    """All sizes that any of them has."""
    sizes = sorted({point.size for curve in curves for point in curve.points})
    same = [[point for curve in curves for point in curve.points if point.size == size] for size in sizes]
    return Curve(points=tuple(merge_points(points) for points in same))


def merge_points(points: Sequence[Point]) -> Point:
    """Points of one size, averaged by their calls.

    The 99th percentile is averaged too, for want of the calls themselves. The noise is what each states, averaged, or
    half of what their seconds differ by beside their median, whichever is more: two measurements that disagree say more
    about a third than either does.
    """
    if len(points) == 1:
        return points[0]
    calls = [float(point.calls) for point in points]

    def average(of: Callable[[Point], float]) -> float:
        return mean([of(point) for point in points], calls)

    stated = [(point.noise, point.calls) for point in points if point.noise is not None]
    between = half_spread([Curve(points=(point,)).seconds(point) for point in points])
    return Point(
        size=points[0].size,
        calls=sum(point.calls for point in points),
        median_s=average(lambda p: p.median_s),
        mean_s=average(lambda p: p.mean_s),
        p99_s=average(lambda p: p.p99_s),
        cpu_s=average(lambda p: p.cpu_s),
        delay_s=average(lambda p: p.delay_s),
        noise=larger(stated, between),
    )


def merge_beside(several: Sequence[Beside], weights: Sequence[float]) -> Beside:
    """Rates averaged; of one number of threads."""
    threads = {one.threads for one in several}
    if len(threads) > 1:
        raise ConfigError(f"profiles cannot be merged: threads were timed by {sorted(threads)}; measure again")

    def average(of: Callable[[Beside], float]) -> float:
        return mean([of(one) for one in several], weights)

    return Beside(
        threads=several[0].threads,
        alone_per_s=average(lambda one: one.alone_per_s),
        alone_cores=average(lambda one: one.alone_cores),
        together_per_s=average(lambda one: one.together_per_s),
        cores=average(lambda one: one.cores),
    )


def merge_traces(traces: Sequence[Trace]) -> tuple[Trace, ...]:
    """Costs of phases by architecture."""
    groups: dict[str, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(trace.architecture, []).append(trace)
    return tuple(replace(same[0], phases=merge_named([one.phases for one in same])) for same in groups.values())


def merge_passing(several: Sequence[dict[str, Passing]]) -> dict[str, Passing]:
    """Costs of messages by engine, averaged evenly."""
    found = {}
    for engine in dict.fromkeys(name for passing in several for name in passing):
        found[engine] = evenly([passing[engine] for passing in several if engine in passing])
    return found


def merge_relayed(several: Sequence[Relayed]) -> Relayed | None:
    """The same of clusters; None where nobody measured it."""
    return evenly(several) if several else None


def merge_in_step(several: Sequence[InStep]) -> InStep | None:
    """Updates of learners in step, of one kind of update; None where nobody measured them."""
    if not several:
        return None
    kinds = {(one.architecture, one.steps, one.alone.size) for one in several}
    if len(kinds) > 1:
        raise ConfigError(f"profiles cannot be merged: learners in step had updates of {sorted(kinds)}; measure again")
    ways = ("alone", "devices", "processes")
    return replace(several[0], **{way: merge_points([getattr(one, way) for one in several]) for way in ways})


def evenly(same: Sequence[Any]) -> Any:
    """Seconds averaged evenly, field by field.

    Check: merged with itself, the same.
    """

    def average(values: Sequence[Any]) -> Any:
        return sum(values) / len(values) if isinstance(values[0], float) else evenly(values)

    names = [field.name for field in fields(same[0])]
    return type(same[0])(**{name: average([getattr(one, name) for one in same]) for name in names})


def merge_trials(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Runs of the same layout are one long run; others stay apart."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(str((key_of(trial), trial.settings, trial.simulated)), []).append(trial)
    return tuple(_one_run(group) for group in groups.values())


def _one_run(trials: Sequence[Trial]) -> Trial:
    if len(trials) == 1:
        return trials[0]
    lags = [(trial.lag_mean, trial.updates) for trial in trials if trial.lag_mean is not None]
    roles = list(dict.fromkeys(role for trial in trials for role in trial.phases))
    stated = [(trial.noise, trial.updates) for trial in trials if trial.noise is not None]
    return replace(
        trials[0],
        wall_s=sum(trial.wall_s for trial in trials),
        alone_s=sum(trial.alone_s for trial in trials),
        env_steps=sum(trial.env_steps for trial in trials),
        updates=sum(trial.updates for trial in trials),
        phases={role: _added([trial.phases.get(role, {}) for trial in trials]) for role in roles},
        lag_mean=mean(*zip(*lags, strict=True)) if lags else None,
        noise=larger(stated, half_spread([trial.env_steps_per_s for trial in trials])),
    )


def _added(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds by phase, added up."""
    names = list(dict.fromkeys(name for timers in several for name in timers))
    return {name: sum(timers.get(name, 0.0) for timers in several) for name in names}


def mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted; evenly where all weights are 0.

    Check: of equal values, that value.
    """
    total = sum(weights)
    if not total:
        return sum(values) / len(values)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total


def larger(stated: Sequence[tuple[float, int]], between: float | None) -> float | None:
    """The noises that are stated, averaged by their weights, or the noise between; None where neither is known."""
    known = [mean(*zip(*stated, strict=True))] if stated else []
    return max([*known, *([] if between is None else [between])], default=None)
