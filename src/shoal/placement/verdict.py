# SPDX-License-Identifier: Apache-2.0
"""What to run here, why, and what it is limited by. Pure functions of a profile."""

import json
import math
import shlex
from dataclasses import dataclass, replace
from typing import Any

from shoal.errors import ConfigError
from shoal.placement.allowed import ANY, Allowed
from shoal.placement.bounds import compiled_step_s, env_kind, usual_step
from shoal.placement.layouts import (
    CONSIDERED,
    LONG_STEP_S,
    arrangements,
    core_limit,
    key_of,
    layout_words,
    predict,
)
from shoal.placement.profile import Profile, Trial
from shoal.placement.stages import WAITING, Stage, stages, where
from shoal.placement.unit_costs import best_inference, update_seconds
from shoal.records.readable import count, percent

REUSE_PAYS = 2.0
"""PPO's passes over each batch are taken to be worth so many times the samples: it is preferred unless another
architecture collects more than this many times as fast"""
LAG_COSTS = 1.15
"""IMPALA's stale data are taken to cost so much: lock-step is preferred unless IMPALA is faster by more"""
RACE_STEPS = 100_000
WORTH_SAYING = 1.25
"""a gain below this is not worth a change"""
WORTH_A_WARNING = 0.1
"""share of the cores that other programs may take before the figures come with a warning"""


@dataclass(frozen=True)
class Limits:
    """Agent steps a second at which each part alone could go, and two bounds on all of them together."""

    simulator: float
    inference: float
    update: float
    series: float
    """one after the other on one thread"""
    overlapped: float
    """collecting and learning at the same time, within the cores"""


@dataclass(frozen=True)
class Advice:
    """All that is decided from a profile."""

    trial: Trial
    """the run that the stages describe"""
    stages: list[Stage]
    limits: Limits
    choices: list[Trial]
    """what was considered, fastest first; the simulated ones were predicted, not run"""
    best: Trial
    command: str
    """the one line to run"""
    reasons: list[str]


def advise_on(profile: Profile, architecture: str | None = None, allowed: Allowed = ANY) -> Advice:
    """Everything that can be said about a profile that holds at least one run.

    Args:
      architecture: the one whose stages are wanted; None for the best one's.
      allowed: how stale and how often used data may be in what is recommended.

    Raises:
      ConfigError: nothing stays within that.

    Check: a profile read back from its file gives the same advice.
    """
    tried = sorted(consider(profile), key=lambda trial: -trial.env_steps_per_s)
    choices = [trial for trial in tried if allowed.admit(trial.lag_mean, trial.passes)]
    if not choices:
        raise ConfigError(f"nothing that was tried stays within {allowed.words}; raise --max-lag or --max-reuse")
    best = choose(choices)
    choices = [t for t in choices if t.same_learning or t.architecture == best.architecture]
    measured = [t for t in tried if not t.simulated]
    asked = [t for t in measured if t.architecture == architecture and not t.changed]
    trial = asked[0] if asked else best if not best.simulated else measured[0]
    rows = stages(profile, trial)
    said = [what_limits(profile, trial, rows), *reasons(profile, choices, best)]
    return Advice(trial, rows, limits(profile, trial), choices, best, command(profile, best), said)


def consider(profile: Profile) -> list[Trial]:
    """The runs, and predictions for the arrangements that were not run."""
    ran = {key_of(trial) for trial in profile.trials}
    factor = calibration(profile)
    others = [a for a in arrangements(profile) if key_of(a) not in ran]
    guessed = [predict(profile, a) for a in others]
    return [*profile.trials, *(replace(t, wall_s=t.wall_s / factor, alone_s=t.alone_s / factor) for t in guessed)]


def calibration(profile: Profile) -> float:
    """How many times as fast real runs were as predicted, so that what was only predicted can stand beside them."""
    known = {key_of(a): a for a in arrangements(profile)}
    logs = []
    for trial in profile.trials:
        arrangement = known.get(key_of(trial))
        if arrangement is not None:
            logs.append(math.log(trial.env_steps_per_s / predict(profile, arrangement).env_steps_per_s))
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def choose(choices: list[Trial]) -> Trial:
    """The choice to recommend: as fast as can be without changing what is learnt, weighed by what samples are worth."""
    fastest = {name: quickest(choices, name) for name in {t.architecture for t in choices}}
    ppo = fastest.pop("ppo", None)
    if not fastest:
        return ppo or choices[0]
    best = max(fastest.values(), key=worth)
    return ppo if ppo and worth(ppo) >= worth(best) else best


def worth(trial: Trial) -> float:
    """Steps a second, weighed by what a step is worth to the architecture."""
    weight = {"ppo": REUSE_PAYS, "impala": 1 / LAG_COSTS}
    return trial.env_steps_per_s * weight.get(trial.architecture, 1.0)


def quickest(choices: list[Trial], architecture: str) -> Trial:
    """An architecture's fastest arrangement that learns as its preset does; the preset unless a change is worth it."""
    own = [t for t in choices if t.architecture == architecture and t.same_learning]
    return max(own, key=lambda t: t.env_steps_per_s * (1.0 if t.changed else WORTH_SAYING))


def limits(profile: Profile, trial: Trial) -> Limits:
    """What each part alone allows in this arrangement, in agent steps a second.

    Check: series is never above overlapped, and both are never above the slowest part.
    """
    batch, actors = trial.settings["envs_per_actor"], trial.settings["num_actors"]
    gain = {"waits": float(actors), "threads": min(profile.env_beside.gain, actors)}.get(env_kind(profile), 1.0)
    if trial.engine == "processes":
        gain = max(gain, min(float(actors), profile.cores))
    simulator = profile.valid_frac * batch / profile.env_step.at(batch) * gain
    inference = profile.valid_frac * batch / best_inference(profile, batch)
    compiled = compiled_step_s(profile)
    if compiled is not None:  # environments and agent are one call, which is all that collecting takes
        simulator, inference = profile.valid_frac * batch / compiled * min(actors, profile.cores), math.inf
    update = profile.valid_frac * trial.rows / update_seconds(profile, trial.passes, trial.rows)
    series = 1 / (1 / simulator + 1 / inference + 1 / update)
    overlapped = 1 / max(1 / simulator + 1 / inference, 1 / update)
    cores = profile.valid_frac * core_limit(profile, batch, trial.rows, trial.passes, trial.engine)
    cores = overlapped if compiled is not None else cores
    return Limits(simulator, inference, update, series, max(series, min(overlapped, cores)))


def command(profile: Profile, trial: Trial) -> str:
    """The line that trains in this arrangement."""
    return train_line(profile, trial.architecture, trial.changed, "processes" if trial.engine == "processes" else None)


def train_line(profile: Profile, architecture: str, changed: dict[str, Any], engine: str | None) -> str:
    """The line that trains with some fields changed; engine None for the one that it takes by itself."""
    words = ["shoal", "train", architecture, "--env", profile.env.id]
    if profile.env.settings:
        words += ["--env-kwargs", json.dumps(profile.env.settings)]
    if profile.network != "auto":
        words += ["--network", profile.network]
    if engine is not None:
        words += ["--engine", engine]
    for name, value in changed.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return shlex.join(words)


def race(profile: Profile) -> str | None:
    """The line that compares learning rather than speed; none where races cannot be given the network."""
    if profile.network != "auto":
        return None
    settings = ["--env-kwargs", json.dumps(profile.env.settings)] if profile.env.settings else []
    words = ["shoal", "race", *CONSIDERED, "--env", profile.env.id, *settings, "--env-steps", str(RACE_STEPS)]
    return shlex.join(words)


def describe(trial: Trial) -> str:
    """A layout in words."""
    on_device = trial.phases.get("actor", {}).get("rollout", 0.0) > 0.0 and not trial.simulated
    words = layout_words(trial.settings, trial.engine)
    return f"{words}, on-device: rollout and agent in one compiled call" if on_device else words


def reasons(profile: Profile, choices: list[Trial], best: Trial) -> list[str]:
    """The verdict, a sentence each: which architecture, parallel or not, GPU or not, what else to know."""
    said = [why_this_one(choices, best), why_parallel(profile, choices, best), why_gpu(profile, best)]
    faster = [t for t in choices if not t.same_learning and t.architecture == best.architecture]
    if faster and faster[0].env_steps_per_s >= WORTH_SAYING * best.env_steps_per_s:
        times = faster[0].env_steps_per_s / best.env_steps_per_s
        said.append(
            f"{times:.1f}x the steps with {describe(faster[0])}, but then it learns otherwise, so compare returns: "
            f"`{command(profile, faster[0])}`."
        )
    if (disturbed := disturbance(profile)) > WORTH_A_WARNING:
        said.append(
            f"Other programs used {percent(disturbed)} of the cores meanwhile. The figures leave that out as far as it "
            "can be told; measure again on a quiet machine."
        )
    return said


def disturbance(profile: Profile) -> float:
    """Share of the cores that other programs used: of the machine's or of what runs wanted, whichever is more."""
    runs = [1 - trial.alone_s / trial.wall_s for trial in profile.trials]
    return max(profile.disturbed, sum(runs) / len(runs) if runs else 0.0)


def what_limits(profile: Profile, trial: Trial, rows: list[Stage]) -> str:
    """The stage that takes most of the workers' time."""
    stage = max((row for row in rows if row.box != WAITING), key=lambda row: row.share)
    takes_turns = trial.engine == "threads" and env_kind(profile) == "python"
    lock = ", waiting for Python's lock included" if takes_turns else ""
    return f"What limits {trial.architecture} here: {stage.name}, {percent(stage.share)} of the time{lock}."


def why_this_one(choices: list[Trial], best: Trial) -> str:
    """Steps against how often each is used."""
    others = {t.architecture: quickest(choices, t.architecture) for t in choices if t.architecture != best.architecture}
    rates = ", ".join(f"{name} {count(t.env_steps_per_s)}" for name, t in sorted(others.items()))
    rate = f"{best.architecture} collects {count(best.env_steps_per_s)} steps/s here"
    if not others:
        return f"{rate}."
    if best.passes > 1:
        return f"{rate} ({rates}) and trains {best.passes} times on each, so it usually needs the fewest of them."
    ppo = others.get("ppo")
    if ppo is not None:
        times = best.env_steps_per_s / ppo.env_steps_per_s
        return f"{rate} ({rates}): {times:.1f}x those of ppo, more than ppo's {ppo.passes} passes over each are worth."
    return f"{rate} ({rates})."


def why_parallel(profile: Profile, choices: list[Trial], best: Trial) -> str:
    """Whether more than one thread pays."""
    serial = [t for t in choices if t.engine == "inline" and not t.changed]
    if best.engine != "inline":
        same = [t for t in serial if t.architecture == best.architecture] or serial
        rate = max((t.env_steps_per_s for t in same), default=best.env_steps_per_s)
        times = f"{best.env_steps_per_s / rate:.1f}x {same[0].architecture if same else best.architecture}"
        return f"Parallelise: {what_overlaps(profile, best.engine)}, {times} with one actor in turn."
    why = {
        "waits": "the steps are too short for threads to hide the waiting",
        "fills": f"the simulator and the update each keep all {profile.cores:g} cores busy already, in turn",
        "threads": "what threads could gain is lost in handing over",
        "memory": "observations take about what memory can move, and workers would share it",
        "python": "the simulator holds Python's lock, so threads would take turns with it",
    }[env_kind(profile)]
    if env_kind(profile) == "python" and usual_step(profile).mean_s < LONG_STEP_S:
        why += ", and its steps are too short for processes"
    threaded = [t for t in choices if t.engine != "inline" and t.same_learning]
    if not threaded:
        return f"Don't parallelise: {why}."
    fastest, times = threaded[0], threaded[0].env_steps_per_s / best.env_steps_per_s
    if times < WORTH_SAYING:
        return f"Don't parallelise: {why} ({fastest.architecture} on {fastest.engine}: {times:.1f}x the steps)."
    return (
        f"One thread is enough for {best.architecture}: its actor and its learner take turns. {fastest.architecture} "
        f"on {fastest.engine} collects {times:.1f}x the steps, since its learner computes meanwhile, but makes less of "
        "each."
    )


def what_overlaps(profile: Profile, engine: str) -> str:
    """What is gained by more than one worker, and why each has a process where it has."""
    kind = env_kind(profile)
    if kind == "waits":
        apart = ", with a process each for what they compute" if engine == "processes" else ""
        return f"waiting environments overlap{apart}"
    if engine == "processes" and kind == "python":
        return "the simulator holds Python's lock, so every actor gets a process"
    return "collecting and learning overlap" + (", each in a process" if engine == "processes" else "")


def why_gpu(profile: Profile, best: Trial) -> str:
    """What an accelerator does here, or could do at most."""
    if profile.accelerators:
        act, from_batch = where(profile, profile.inference, best.settings["envs_per_actor"], "observations")
        learn, from_rows = where(profile, profile.update, best.rows, "rows")
        return f"Act on the {act} (GPU from {from_batch}); update on the {learn} (GPU from {from_rows})."
    if compiled_step_s(profile) is not None:
        return "No GPU seen. Environments written in JAX run on one with the agent; measure there how fast."
    bounds = limits(profile, best)
    most = bounds.simulator / (bounds.series if best.engine == "inline" else bounds.overlapped)
    if most < WORTH_SAYING:
        return f"No GPU seen, and none needed: inference and update take {percent(1 - 1 / most)} of the time at most."
    return (
        f"No GPU seen. One that made inference and update free would make this {most:.1f}x as fast; "
        "the simulator stays on the CPU."
    )
