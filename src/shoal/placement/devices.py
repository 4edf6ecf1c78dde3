# SPDX-License-Identifier: Apache-2.0
"""Where acting and learning are computed in a prediction: on cores, or on accelerators, measured or modelled. Needs no
JAX.

    a call on cores, by the profile     --\\
                                           the cheaper, or what was asked for --> costs of phases on a device
    a call on the device, by the profile --/
    where it measured one, else by a model
"""

from dataclasses import dataclass
from typing import Any, Literal

from shoal.actors.samplers import way_of
from shoal.architectures.placing import even_share
from shoal.engines import Work
from shoal.errors import ConfigError
from shoal.placement.accelerators import ACCELERATORS, SOURCES, acting_s, learning_s
from shoal.placement.machines import MachineFacts
from shoal.placement.profile import Profile
from shoal.placement.trial import passes
from shoal.placement.unit_costs import best_inference, rows_of, update_scale

On = Literal["cpu", "gpu"]
ROW_BYTES = 32
"""of a trajectory's row beside its observation"""
PARAM_COPIES = 4
"""of the params, that learning holds: themselves, a gradient, two moments"""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of acting and learning."""

    on: On
    asked: bool
    """for, or else it was the cheaper"""
    size: int
    """observations of a call, or rows of an update"""
    cpu_s: float
    gpu_s: float | None
    """None where there is no accelerator"""
    device: str | None
    """which accelerator of its node"""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where what is computed, and by what figures."""

    act: Stage
    learn: Stage
    figures: Literal["measured", "modelled"] | None
    """those of accelerators; None where there are none"""
    constants: str | None
    """of the model"""
    sources: dict[str, str]
    """of the constants"""
    holds: bool
    """an accelerator's memory, one batch and the params; True where it isn't known"""
    share: float | None
    """of an accelerator's memory that workers in processes have to be given (`device_memory_frac`), where they act on
    one and the config gives them none"""


def places(  # noqa: PLR0913 - what a place depends on, and what was asked for
    profile: Profile,
    config: Any,
    machine: MachineFacts,
    table: dict[str, Any],
    act_on: On | None = None,
    learn_on: On | None = None,
) -> Places:
    """Where acting and learning are computed: where it was asked for, else where one call costs less.

    Learning takes the first accelerator of its node, acting the second where there are several. Gradients that many
    workers compute stay on cores.

    Args:
      table: costs of phases on cores.

    Raises:
      ConfigError: an accelerator is asked for, and the machine has none.

    Check: without accelerators everything is on cores.
    """
    batch, rows = acting_batch(config), rows_of("update", config)
    apart = f"gpu{min(1, machine.devices - 1)}"
    seconds = best_inference(profile, batch) / machine.speed, device_acting_s(profile, machine, batch)
    on_cores = table.get("update")
    learning = (on_cores.seconds, device_learning_s(profile, machine, config)) if on_cores else (0.0, None)
    facts = ACCELERATORS.get(machine.device) if machine.devices else None
    held = rows * row_bytes(profile) + 4 * PARAM_COPIES * profile.params
    act = choose("act", act_on, batch, seconds, apart, machine)
    alone = act.device is not None and config.device_memory_frac is None
    return Places(
        act=act,
        learn=choose("learn", learn_on, rows, learning, "gpu0", machine),
        figures=("measured" if machine.measured else "modelled") if machine.devices else None,
        constants=None if facts is None else facts.words,
        sources={} if facts is None else SOURCES,
        holds=facts is None or held <= facts.memory_bytes,
        share=even_share(config) if alone else None,
    )


def choose(
    what: str, asked: On | None, size: int, seconds: tuple[float, float | None], device: str, machine: MachineFacts
) -> Stage:
    """Where a stage goes, by its seconds on cores and on an accelerator."""
    cpu_s, gpu_s = seconds
    if asked == "gpu" and gpu_s is None and machine.devices:
        raise ConfigError(
            f"--{what}-on gpu: how long this architecture's learning takes there is not known; leave it out"
        )
    if asked == "gpu" and gpu_s is None:
        raise ConfigError(
            f"--{what}-on gpu: machine {machine.name} has no accelerator; add one, as in {machine.name}+1xa100"
        )
    on: On = asked or ("gpu" if gpu_s is not None and gpu_s < cpu_s else "cpu")
    name = device if on == "gpu" else None
    return Stage(on=on, asked=asked is not None, size=size, cpu_s=cpu_s, gpu_s=gpu_s, device=name)


def acting_batch(config: Any) -> int:
    """Observations in a call that acts: a full batch of a server, or an actor's environments that step together."""
    if served(config):
        return config.requests * config.envs_per_actor
    return config.envs_per_actor // (2 if way_of(config) == "alternating" else 1)


def served(config: Any) -> bool:
    """Whether one worker acts for all actors."""
    return hasattr(config, "requests")


def row_bytes(profile: Profile) -> int:
    """Of a row that is learnt from."""
    return profile.env.obs_bytes + ROW_BYTES


def device_acting_s(profile: Profile, machine: MachineFacts, batch: int) -> float | None:
    """Seconds to act on a batch on an accelerator of the machine, by its measured curve or by the model; None without
    one."""
    if not machine.devices:
        return None
    if machine.measured:
        return profile.inference[machine.device].at(batch)
    return acting_s(ACCELERATORS[machine.device], profile.flops, profile.params, profile.env.obs_bytes, batch)


def device_learning_s(profile: Profile, machine: MachineFacts, config: Any) -> float | None:
    """Seconds of an update on an accelerator of the machine; None without one, or where what was measured on it is
    another kind of learner."""
    remembers = hasattr(config, "replay_ratio")
    if not machine.devices or (machine.measured and remembers):
        return None
    times, rows = passes(config), rows_of("update", config)
    if machine.measured:
        return profile.update[machine.device].at(rows) * update_scale(profile, times)
    return learning_s(
        ACCELERATORS[machine.device],
        profile.flops,
        profile.params,
        row_bytes(profile),
        rows=rows,
        passes=times,
        steps=config.groups if remembers else times * getattr(config, "minibatches", 1),
    )


def on_devices(
    table: dict[str, Any], profile: Profile, config: Any, machine: MachineFacts, found: Places
) -> dict[str, Any]:
    """Costs of phases, those on accelerators changed. A call is the device's from its beginning to its end: who waits
    for it takes no core.

    Check: on cores alone, the same costs.
    """
    changed = {}
    if found.act.device is not None:

        def act(*args: Any) -> Work:
            asked = args[0] if isinstance(args[0], list) else None
            size = found.act.size if asked is None else len(asked) * config.envs_per_actor
            return Work(device_acting_s(profile, machine, size) or 0.0, device=found.act.device)

        changed["act"] = act
    if found.learn.device is not None:
        changed["update"] = Work(found.learn.gpu_s or 0.0, device=found.learn.device)
    return table | changed
