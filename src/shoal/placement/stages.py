# SPDX-License-Identifier: Apache-2.0
"""The three questions for every stage of a run: its share, how it can be parallelised, CPU or GPU. Pure functions.

Stages are grouped as the field's lectures draw reinforcement learning: generate samples, fit a model or estimate the
return, improve the policy. Time in which nobody works is a group of its own.
"""

from dataclasses import dataclass

from shoal.placement.bounds import env_kind, fine_percent, moved_share, usual_step
from shoal.placement.layouts import LONG_STEP_S
from shoal.placement.lines import break_even
from shoal.placement.profile import Curve, Profile, Trial
from shoal.placement.unit_costs import HOSTS, host_curve
from shoal.records.readable import count, nbytes, percent

SAMPLES, FIT, IMPROVE, WAITING = "Generate samples", "Fit or estimate", "Improve the policy", "Wait"
BOXES = (SAMPLES, FIT, IMPROVE, WAITING)
CHEAP = 0.03
"""share below which a stage is not worth a thought"""
WORTH_BATCHING = 0.25
"""batching pays where a batch costs less than this share of its observations one by one"""
WIDER_PAYS = 1.5
"""gain of more environments in a vector step that is worth a word"""
NO_GPU = "no GPU seen"


ON_DEVICE = "it is on-device already: rollout and agent in one compiled call; more environments fill a device"


@dataclass(frozen=True)
class Stage:
    """One row of the table."""

    box: str
    name: str
    share: float
    """of the time of all workers"""
    per_step_s: float
    """worker seconds per agent step"""
    parallel: str
    """whether it can be parallelised, and how"""
    device: str
    """CPU or GPU on this machine"""
    break_even: str
    """the batch from which the accelerator wins, or why there is none"""


def stages(profile: Profile, trial: Trial) -> list[Stage]:
    """All rows for one run. Shares add up to 1.

    Check: the shares of a made-up trial are its seconds over workers times wall time.
    """
    spent = seconds_by_stage(profile, trial)
    total = sum(spent.values())

    def row(box: str, name: str, parallel: str, device: str = "CPU", size: str = "-") -> Stage:
        return Stage(box, name, spent[name] / total, spent[name] / max(1, trial.env_steps), parallel, device, size)

    def cheap(name: str) -> str:
        return f"no need: {percent(spent[name] / total)} of the time" if spent[name] < CHEAP * total else ""

    compiled = trial.phases.get("actor", {}).get("rollout", 0.0) > 0.0
    acting = "in the environment's call" if compiled else cheap("inference") or inference_advice(profile, trial)
    act_device, act_size = where(profile, profile.inference, trial.settings["envs_per_actor"], "observations")
    fit_device, fit_size = where(profile, profile.update, trial.rows, "rows")
    return [
        row(SAMPLES, "environment step", ON_DEVICE if compiled else environment_advice(profile)),
        row(SAMPLES, "inference", acting, act_device, act_size),
        row(SAMPLES, "bookkeeping", "with its actor: noise, log-probabilities and storing, once per unroll"),
        row(FIT, "advantage estimate", estimate_advice(spent["advantage estimate"] / total), fit_device, fit_size),
        row(
            IMPROVE,
            "gradient and step",
            cheap("gradient and step") or update_advice(profile, trial),
            fit_device,
            fit_size,
        ),
        row(IMPROVE, "publish params", publish_advice(profile, spent["publish params"] / total)),
        row(WAITING, "waiting", waiting_advice(trial), "-"),
    ]


def seconds_by_stage(profile: Profile, trial: Trial) -> dict[str, float]:
    """Worker seconds by the name of the stage; the rest of the workers' time is waiting."""
    actor, learner = trial.phases.get("actor", {}), trial.phases.get("learner", {})
    rows = trial.env_steps / profile.valid_frac
    estimate = min(profile.estimate.mean_s / profile.estimate.size * rows, learner["update"])
    workers = 1 if trial.engine == "inline" else sum(trial.workers.values())
    spent = {
        "environment step": actor.get("env_step", 0.0) + actor.get("rollout", 0.0),
        "inference": actor.get("act", 0.0),
        "bookkeeping": actor.get("prepare", 0.0) + actor.get("assemble", 0.0),
        "advantage estimate": estimate,
        "gradient and step": learner["update"] - estimate,
        "publish params": learner.get("publish", 0.0),
    }
    return spent | {"waiting": max(0.0, workers * trial.wall_s - sum(spent.values()))}


def environment_advice(profile: Profile) -> str:
    """How to step environments faster, from what keeps a step from being faster."""
    point, beside = usual_step(profile), profile.env_beside
    threads = f"{beside.threads} threads ran {beside.gain:.1f}x"
    match env_kind(profile):
        case "waits":
            return f"yes: a step waits {percent(point.idle)} of its time, so more actors step meanwhile ({threads})"
        case "fills":
            busy = f"{min(point.cores, profile.cores):.1f} of {profile.cores:g} cores"
            return f"it is already: one step keeps {busy} busy, nothing left here ({threads}); more cores would help"
        case "threads":
            return f"yes: over threads, up to {profile.cores:g} cores ({threads})"
        case "memory":
            share = fine_percent(moved_share(profile))
            return f"hardly: observations take {share} of what memory can move, which workers share ({threads})"
        case _:
            long = point.mean_s >= LONG_STEP_S
            remedy = "yes: over processes" if long else "hardly: a step is too short for processes to pay"
            text = f"{remedy}; threads take turns, it holds Python's lock ({threads})"
            return f"{wider_advice(profile)}; {text}" if wider_advice(profile) else text


def wider_advice(profile: Profile) -> str:
    """What more environments in one vector step bring, where most of a step does not depend on their number."""
    curve, usual = profile.env_step, usual_step(profile)
    most = curve.points[-1]
    gain = (most.size / curve.seconds(most)) / (usual.size / curve.seconds(usual))
    if most.size <= usual.size or gain < WIDER_PAYS:
        return ""
    return f"yes, as a vector: {most.size} in one step give {gain:.1f}x the steps of {usual.size}"


def inference_advice(profile: Profile, trial: Trial) -> str:
    """How far batches are free, for the batch that actors use."""
    name, curve = host_curve(profile, trial.settings["envs_per_actor"])
    where = "in NumPy" if name == "numpy" else "in JAX"
    one = curve.points[0]
    best = min(curve.points, key=lambda p: curve.seconds(p) / p.size)
    times = curve.seconds(best) / curve.seconds(one)
    if times < WORTH_BATCHING * best.size / one.size:
        return f"yes, by batching: {best.size} observations in one call cost {times:.1f}x {one.size} ({where})"
    cores = curve.cores_at(trial.settings["envs_per_actor"])
    if cores >= 0.75 * profile.cores:
        return f"it is already: a call keeps {min(cores, profile.cores):.1f} of {profile.cores:g} cores busy ({where})"
    return f"yes, over actors: a call keeps {cores:.1f} of {profile.cores:g} cores busy ({where})"


def estimate_advice(share: float) -> str:
    """The recursion over time is serial; over environments it is one array operation."""
    text = "one scan inside the update, over environments but not over time"
    return f"no need: {text}" if share < CHEAP else f"it is already: {text}"


def update_advice(profile: Profile, trial: Trial) -> str:
    """Whether XLA already fills the cores, or the batch is too small to."""
    curve = profile.update["cpu"]
    cores, line = min(curve.cores_at(trial.rows), profile.cores), curve.line()
    busy = f"{cores:.1f} of {profile.cores:g} cores"
    if profile.cores > 1 and cores >= 0.75 * profile.cores:
        return f"it is already: XLA keeps {busy} busy; beyond that, data-parallel learners or a GPU"
    overhead = line.fixed_s / line.at(trial.rows)
    if overhead >= 0.5:
        return f"not at {trial.rows:,} rows: {percent(overhead)} is fixed cost; larger batches use it better"
    return f"little: XLA keeps {busy} busy on a network this small; impala overlaps it with acting"


def publish_advice(profile: Profile, share: float) -> str:
    """Params are small beside trajectories, or not."""
    size = nbytes(4 * profile.params)
    return f"no need: one copy of {size} per update" if share < CHEAP else f"publish less often: {size} each time"


def waiting_advice(trial: Trial) -> str:
    """Who waits for whom, and what that says about the other side."""
    if trial.engine == "inline":
        return "nobody waits: one thread does everything in turn; this passes between the phases"
    idle = {role: 1 - sum(trial.phases[role].values()) / (n * trial.wall_s) for role, n in trial.workers.items()}
    shares = (
        f"the learner waits {percent(max(0, idle['learner']))} of its time, actors {percent(max(0, idle['actor']))}"
    )
    limit = "the learner is the limit" if idle["actor"] > idle["learner"] else "actors are the limit"
    return f"{shares}: {limit}"


def where(profile: Profile, curves: dict[str, Curve], size: int, unit: str) -> tuple[str, str]:
    """(CPU or GPU for a call of this size here, the size from which the accelerator wins)."""
    if not profile.accelerators:
        return "CPU", NO_GPU
    name = profile.accelerators[0]
    here = min((curve for key, curve in curves.items() if key in HOSTS), key=lambda curve: curve.at(size))
    there = curves[name]
    turn = break_even(here.line(), there.line())
    best = name.upper() if there.at(size) < here.at(size) else "CPU"
    times = max(here.at(size), there.at(size)) / min(here.at(size), there.at(size))
    device = f"{best}, {times:.1f}x at {size:,}"
    if turn is None:
        return device, "never seen"
    return device, f"{count(max(1.0, round(turn)))} {unit}"
