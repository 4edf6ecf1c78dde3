# SPDX-License-Identifier: Apache-2.0
"""Layouts worth trying for a profile, and what the simulated engine says of them. Needs no JAX."""

import dataclasses
from typing import Any

from shoal.architectures import presets, registry
from shoal.architectures.assemble import default_engine
from shoal.errors import ConfigError
from shoal.placement.bounds import env_kind, usual_step
from shoal.placement.machines import machine_named
from shoal.placement.profile import Profile, Trial
from shoal.placement.trial import SHORTEST_UNROLL, Arrangement, run_trial
from shoal.placement.twins import twin_parts
from shoal.placement.unit_costs import costs, episode_lengths, host_curve, update_seconds
from shoal.types import ArraySpec

CONSIDERED = ("ppo", "a2c", "impala")
"""architectures that advice chooses among: one network and objective, three ways to wait"""
LONG_STEP_S = 200e-6
"""a vector step of so many seconds is worth a process: handing over its rows takes less than collecting them"""
MOST_ACTORS = 16
WIDER = 4
"""how many times as many environments an actor is tried with"""
SIMULATED_UPDATES = 5


def check_considered(architecture: str | None) -> None:
    """Raise ConfigError unless there can be advice on an architecture; None is whichever is recommended."""
    if architecture is not None:
        registry.load(architecture)
    if architecture not in (None, *CONSIDERED):
        raise ConfigError(f"advice on {architecture!r} is not available yet; use one of {', '.join(CONSIDERED)}")


def arrangements(profile: Profile) -> list[Arrangement]:
    """Every architecture as preset, and rearranged in the ways that could pay for such an environment."""
    found = []
    for architecture in CONSIDERED:
        config = presets.preset(architecture, profile.env.spec())
        found.append(arrange(architecture, config, {}))
        kind = env_kind(profile)
        if kind == "waits":
            found += split(architecture, config, min(config.num_envs, MOST_ACTORS))
            found += crowd(architecture, config)
        elif kind == "threads":
            found += split(architecture, config, int(profile.cores))
        elif kind == "python" and profile.env.named and usual_step(profile).mean_s >= LONG_STEP_S:
            found += split(architecture, config, int(profile.cores), engine="processes")
        if kind != "fills" and profile.env_step.line().half_size >= WIDER * config.envs_per_actor:
            found += widen(architecture, config)
    return found


def arrange(
    architecture: str, config: Any, changed: dict[str, int], same_learning: bool = True, engine: str | None = None
) -> Arrangement:
    """The arrangement of a preset's config with some fields changed, on the engine it would have by default or
    another."""
    config = dataclasses.replace(config, **changed)
    engine = engine or default_engine(architecture, config)
    return Arrangement(architecture, engine, config, changed, same_learning)


def split(architecture: str, config: Any, num_actors: int, engine: str | None = None) -> list[Arrangement]:
    """The same environments over more actors; batches keep their rows. Nothing where that changes nothing."""
    if num_actors < config.num_actors or config.num_envs % num_actors:
        return []
    if num_actors == config.num_actors and engine is None:
        return []
    changed = {"num_actors": num_actors, "envs_per_actor": config.num_envs // num_actors}
    if hasattr(config, "batch_trajectories"):
        rows = config.batch_trajectories * config.envs_per_actor
        changed["batch_trajectories"] = max(1, rows // changed["envs_per_actor"])
        changed["queue_slots"] = max(config.queue_slots, changed["batch_trajectories"])
    changed = {name: value for name, value in changed.items() if getattr(config, name) != value}
    return [arrange(architecture, config, changed, engine=engine)]


def widen(architecture: str, config: Any) -> list[Arrangement]:
    """More environments for each actor and shorter unrolls, so that batches keep their rows: other learning."""
    length = config.unroll_length // WIDER
    if length < SHORTEST_UNROLL:
        return []
    changed = {"envs_per_actor": config.envs_per_actor * WIDER, "unroll_length": length}
    return [arrange(architecture, config, changed, same_learning=False)]


def crowd(architecture: str, config: Any) -> list[Arrangement]:
    """More actors with one environment each, and shorter unrolls, so that batches keep their rows: other learning."""
    length, actors = config.unroll_length // WIDER, config.num_envs * WIDER
    if length < SHORTEST_UNROLL:
        return []
    changed = {"num_actors": actors, "envs_per_actor": 1, "unroll_length": length}
    if hasattr(config, "batch_trajectories"):
        rows = config.batch_trajectories * config.envs_per_actor * WIDER
        changed |= {"batch_trajectories": rows, "queue_slots": max(config.queue_slots, rows)}
    return [arrange(architecture, config, changed, same_learning=False)]


def layout_words(settings: dict[str, Any], engine: str) -> str:
    """A layout as a person reads it; with environment workers, who they are asked by."""

    def several(name: str, unit: str) -> str:
        return f"{settings[name]} {unit}{'' if settings[name] == 1 else 's'}"

    parts = (several("num_actors", "actor"), several("envs_per_actor", "env"), several("unroll_length", "step"))
    workers, sampler = settings.get("env_workers", 0), settings.get("sampler", "central")
    number = f"2 x {workers}" if sampler == "alternating" else workers
    over = f", {sampler} over {number} env worker{'' if number == 1 else 's'}" if workers else ""
    return " x ".join(parts) + {"inline": ", one thread"}.get(engine, f", {engine}") + over


def key_of(choice: Arrangement | Trial) -> tuple[str, str, str]:
    """What tells one arrangement, or its trial, from others."""
    return choice.architecture, choice.engine, str(choice.changed)


def predict(profile: Profile, arrangement: Arrangement) -> Trial:
    """The architecture's own `run` on twins in virtual time, at the costs measured for the parts, on this machine.

    Check: with one actor in lock-step, a batch takes the sum of its parts; actors that compute share the cores.
    """
    config = dataclasses.replace(arrangement.config, env_steps=10**12)
    spec = dataclasses.replace(profile.env.spec(), obs=ArraySpec((1,), "float32"))
    module, parts = registry.load(arrangement.architecture), twin_parts(spec, 1, lengths=episode_lengths(profile))
    here = machine_named("here", profile)
    return run_trial(
        arrangement._replace(config=config), module, parts, updates=SIMULATED_UPDATES,
        costs=costs(profile, config, arrangement.architecture, engine=arrangement.engine),
        machine=lambda: here.make(separate=arrangement.engine == "processes"),
    )  # fmt: skip


def core_limit(profile: Profile, batch: int, rows: int, times: int, engine: str = "threads") -> float:
    """Environment steps a second at which all cores compute without pause, or all take turns in Python or for
    memory.

    Args:
      batch: environments of an actor.
      rows: environment steps in an update.
      times: how often an update goes through them.
    """
    acting = host_curve(profile, batch)[1].cpu_at(batch)
    collecting = (profile.env_step.cpu_at(batch) + acting) / batch
    update = profile.update["cpu"]
    learning = update.cpu_at(rows) / update.at(rows) * update_seconds(profile, times, rows) / rows
    limit = profile.cores / (collecting + learning)
    kind = env_kind(profile)
    takes_turns = kind == "memory" or (kind == "python" and engine != "processes")
    return min(limit, 1.0 / collecting) if takes_turns else limit
