# SPDX-License-Identifier: Apache-2.0
"""What an architecture would do on a machine: its own `run` on twins, in virtual time, at the costs of a profile.

    profile, machine --> unit costs --> simulated engine --> steps a second, who is busy, what is the limit

Needs no JAX.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from shoal.actors.samplers import way_of
from shoal.architectures import presets
from shoal.architectures.optimisation import require_processes_of_learners
from shoal.engines import IN_PROCESSES, Machine, Work
from shoal.errors import ConfigError
from shoal.placement.apart_costs import apart_costs
from shoal.placement.bounds import compiled_step_s
from shoal.placement.devices import On, Places, on_devices, places, served
from shoal.placement.in_step_costs import between_nodes, on_devices_of
from shoal.placement.machines import MachineFacts
from shoal.placement.message_costs import AGENT, HUB
from shoal.placement.profile import Profile
from shoal.placement.trial import batch_trajectories, layout, passes
from shoal.placement.twin_hands import costs_of_barriers
from shoal.placement.twin_pool import costs_of_waiting
from shoal.placement.unit_costs import IN_XLA, costs, storing_of
from shoal.placement.watch import Reading, parts_of, watched
from shoal.records.readable import percent
from shoal.replay.sizing import shard_bytes

BY_LEARNER = ("ppo", "a2c", "impala", "appo", "seed")
"""architectures whose learner takes trajectories: without a trace of theirs, the learner that a profile was measured
with tells what they cost"""
STEP_BY_STEP = 64
"""actors up to which their unrolls go step by step"""
FULL = 0.9
"""share from which on something is the limit"""


@dataclass(frozen=True, kw_only=True)
class Role:
    """The workers of one role."""

    workers: int
    busy: float
    """share of their time at work, waits for cores included"""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One message between two roles."""

    message: str
    source: str
    target: str
    per_s: float
    bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was predicted."""

    architecture: str
    machine: MachineFacts
    engine: str
    settings: dict[str, Any]
    """fields that differ from the preset"""
    layout: dict[str, int]
    """the fields that say where work runs and how much of it at a time"""
    places: Places
    """on cores or accelerators"""
    env_steps_per_s: float
    updates_per_s: float
    """batches trained on"""
    roles: dict[str, Role]
    shared: dict[str, float]
    """share of the time in which cores, interpreters and links were busy, by name"""
    limit: str
    """what keeps it from being faster"""
    lag_mean: float
    lag_max: int
    reuse: float
    """rows learnt from for each row made"""
    data_bytes: int
    """of unrolls on their way and params, over all nodes"""
    wires: tuple[Wire, ...]

    @property
    def fits(self) -> bool:
        """Whether the machine's memory holds that data."""
        return self.data_bytes <= self.machine.nodes * self.machine.memory_bytes


def predict(  # noqa: PLR0913 - everything that a prediction rests on
    profile: Profile,
    architecture: str,
    machine: MachineFacts,
    config: Any = None,
    *,
    engine: str = "processes",
    env_times: float = 1.0,
    whole_unrolls: bool | None = None,
    act_on: On | None = None,
    learn_on: On | None = None,
    seed: int = 0,
    brief: bool = False,
) -> Prediction:
    """Predict for a config, or for the architecture's preset.

    Args:
      engine: threads, where workers of a node share an interpreter; processes, where each has its own; ray, whose
        messages go over agents of nodes, which processes on several nodes are taken for if the profile has that.
      env_times: seconds of an environment step, beside those that were measured.
      whole_unrolls: simulate an unroll as one piece; None where there are many actors. Never where actors act on a
        device, and never with environment workers.
      act_on, learn_on: where to; None for wherever one call costs less.
      seed: of how long single steps take, where they were measured to differ.
      brief: watch as few updates as give a figure, for many predictions one after the other.

    Raises:
      ConfigError: an architecture or engine whose costs no profile has, a way to collect that is not simulated, or an
        accelerator that the machine has not.

    Check: twice the same gives the same; on one core, it takes the sum of all that is computed.
    """
    engine, preset = engine_for(profile, machine, engine), presets.preset(architecture, profile.env.spec())
    asked = preset if config is None else config
    refuse_unknown(profile, architecture, asked)
    config = on_devices_of(endless(asked), machine.cores)
    require_processes_of_learners(config, engine, "free")
    at = {"speed": machine.speed, "env_times": env_times, "seed": seed}
    table = costs_here(profile, architecture, config, engine, at, machine)
    where = places(profile, config, machine, table, act_on, learn_on)
    table = on_devices(table, profile, config, machine, where)
    coarse = in_one_piece(profile, config, where, whole_unrolls)
    made, joint = shared_by(machine, architecture, config, engine), getattr(config, "learner_processes", 1) > 1
    watch = watched(parts_of(profile, architecture, config, coarse, at), architecture, config, table, made, brief)
    (first, last), (lag_mean, lag_max) = watch.readings, watch.lag()
    seconds = last.now - first.now
    shared, roles = shares(first.busy, last.busy, seconds), roles_of(first, last, int(joint))
    valid = profile.valid_frac if coarse or way_of(config) == "parallel" else 1.0
    return Prediction(
        architecture=architecture,
        machine=machine,
        engine=engine,
        settings=changed(preset, asked),
        layout=layout(asked),
        places=where,
        env_steps_per_s=valid * (last.env_steps - first.env_steps) / seconds,
        updates_per_s=batches_in(config, last.updates - first.updates) / seconds,
        roles=roles,
        shared=shared,
        limit=limit_of(shared, roles),
        lag_mean=lag_mean,
        lag_max=lag_max,
        reuse=watch.reuse or float(getattr(config, "replay_ratio", passes(config))),
        data_bytes=data_bytes(profile, config),
        wires=tuple(wires_of(first.rows, last.rows, seconds)),
    )


def endless(config: Any) -> Any:
    """The config for a run that is ended when enough was seen of it."""
    more = {"save_replay": False} if hasattr(config, "save_replay") else {}
    return dataclasses.replace(config, env_steps=10**12, **more)


def in_one_piece(profile: Profile, config: Any, where: Places, asked: bool | None) -> bool:
    """Whether unrolls are simulated as one piece of work: where there are many actors, or what steps is compiled; never
    where actors act on a device, or with environment workers."""
    coarse = config.all_actors > STEP_BY_STEP if asked is None else asked
    coarse |= compiled_step_s(profile) is not None
    return coarse and (where.act.device is None or served(config)) and not config.env_workers


def shared_by(machine: MachineFacts, architecture: str, config: Any, engine: str) -> Machine:
    """What the workers of a run share on a machine."""
    keeper = keeper_of(architecture, config) if engine == "ray" else None
    return machine.make(engine in IN_PROCESSES, keeper, getattr(config, "learner_processes", 1))


def engine_for(profile: Profile, machine: MachineFacts, engine: str) -> str:
    """The engine whose messages cost what is predicted: that of clusters for processes on several nodes, where the
    profile knows it. Raises ConfigError where it is asked for and the profile does not."""
    if engine == "ray" and profile.relayed is None:
        raise ConfigError(
            f"this profile has no costs of the engine ray; measure them with shoal advise --env {profile.env.id} "
            "--engine ray --json FILE"
        )
    if engine == "processes" and machine.nodes > 1 and profile.relayed is not None:
        return "ray"
    return engine


def keeper_of(architecture: str, config: Any) -> str:
    """The role of the main process of a run."""
    return "parameter_server" if architecture == "gorila" or getattr(config, "apart", False) else "learner"


def batches_in(config: Any, versions: int) -> float:
    """Batches that so many new versions of the params come from: one each, or where learners are apart as many as they
    learn from between two exchanges; over a memory a batch is what others learn from in one message."""
    if not getattr(config, "apart", False):
        return versions
    steps = config.groups if hasattr(config, "replay_ratio") else config.steps_per_batch
    return versions * config.steps_per_exchange / steps


def costs_here(  # noqa: PLR0913 - everything that a cost depends on
    profile: Profile, architecture: str, config: Any, engine: str, at: dict[str, Any], machine: MachineFacts
) -> dict[str, Any]:
    """Costs of phases and messages on cores, with environments beside their actor or in workers; `at` is what `costs`
    takes."""
    table = costs(profile, config, architecture, engine=engine, nodes=machine.nodes, **at)
    if "update" in table:
        table["update"] = between_nodes(table["update"], profile, config, machine)
    if getattr(config, "apart", False):
        table |= apart_costs(profile, architecture, config, at["speed"])
    compiled = compiled_step_s(profile)
    if compiled is not None and not config.env_workers:  # of fewer environments it is taken to last as long
        table |= {"rollout": Work(config.unroll_length * compiled / at["speed"], python=IN_XLA)}
    if not config.env_workers:
        return table
    if way_of(config) == "parallel":
        return costs_of_barriers(table, profile, config, at["speed"])
    storing = storing_of(profile.trace_of(architecture), config, at["speed"])
    return costs_of_waiting(table, profile, config, at["speed"], storing)


def refuse_unknown(profile: Profile, architecture: str, config: Any) -> None:
    """Raises ConfigError for what no cost is known of."""
    if architecture not in BY_LEARNER and profile.trace_of(architecture) is None:
        raise ConfigError(
            f"this profile has no costs of {architecture}'s parts; measure them with shoal advise --env "
            f"{profile.env.id} --measure {architecture} --json FILE"
        )
    if getattr(config, "learner_processes", 1) > 1 and profile.in_step is None:
        raise ConfigError(
            f"learner_processes={config.learner_processes}: this profile does not know what sums of gradients cost; "
            f"measure them with shoal advise --env {profile.env.id} --in-step --json FILE"
        )


def changed(preset: Any, config: Any) -> dict[str, Any]:
    """Fields in which a config departs from a preset."""
    names = (field.name for field in dataclasses.fields(preset))
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(preset, name)}


def roles_of(first: Reading, last: Reading, resting: int = 0) -> dict[str, Role]:
    """How busy the workers of each role were between two readings; of learners, so many only wait for the others."""
    found = {}
    for role, after in last.phases.items():
        before, number = first.phases.get(role, {}), last.workers.get(role, 0) - (resting if role == "learner" else 0)
        if number:
            spent = sum(seconds - before.get(name, 0.0) for name, seconds in after.items())
            found[role] = Role(workers=number, busy=spent / (number * (last.now - first.now)))
    return found


def shares(
    first: dict[tuple[int, str, Any], float], last: dict[tuple[int, str, Any], float], seconds: float
) -> dict[str, float]:
    """Share of the time in which each shared thing was busy."""
    found: dict[str, float] = {}
    several = len({node for node, _, _ in last}) > 1
    for (node, kind, name), busy in sorted(last.items(), key=str):
        if name == HUB:
            found[HUB] = (busy - first.get((node, kind, name), 0.0)) / seconds
            continue
        of_python = AGENT if name == AGENT else "interpreter"
        word = {"cores": "cores", "python": of_python, "link": "link", "device": f"device {name}"}[kind]
        found[f"{word} of node {node}" if several else word] = (busy - first.get((node, kind, name), 0.0)) / seconds
    return found


def limit_of(shared: dict[str, float], roles: dict[str, Role]) -> str:
    """What is busy all the time, or who waits for whom."""
    full = [name for name, share in shared.items() if share >= FULL]
    links = [name for name in full if name.startswith("link")]
    if links:
        return f"the {links[0]} to the others is full"
    at_work = [role for role, use in roles.items() if use.busy >= FULL and role != "actor"]
    if at_work and not any(name.startswith("cores") for name in full):
        one = roles[at_work[0]].workers == 1
        return f"the {at_work[0]}: it is always at work" if one else f"{at_work[0]}s: they are always at work"
    if full:
        return f"the {full[0]}: always busy"
    if "actor" in roles and roles["actor"].busy >= FULL:
        return "actors: they are always at work or their environments wait; more of them would help"
    waits = ", ".join(f"{role}s {percent(1 - use.busy)}" for role, use in roles.items())
    return f"waiting for one another (of their time {waits}): overlap would help"


def data_bytes(profile: Profile, config: Any) -> int:
    """Bytes of the unrolls that actors make, of those in the queue or in a batch, of everybody's params, and of what
    is remembered."""
    row = profile.env.obs_bytes + 32
    unroll = row * config.envs_per_actor * (config.unroll_length + 1)
    held = config.all_actors + getattr(config, "queue_slots", config.all_actors) + batch_trajectories(config)
    kept = config.replay_shards * shard_bytes(config, profile.env.spec()) if hasattr(config, "replay_capacity") else 0
    return unroll * held + 4 * profile.params * (config.all_actors + 1) + kept


def wires_of(first: list[dict[str, Any]], last: list[dict[str, Any]], seconds: float) -> list[Wire]:
    """Messages and bytes a second between two looks at a ledger."""
    names = ("system", "message", "source", "target", "via")
    before = {tuple(row[name] for name in names): row for row in first}
    found = []
    for row in last:
        old = before.get(tuple(row[name] for name in names), {"count": 0, "bytes": 0})
        found.append(
            Wire(
                message=row["message"],
                source=row["source"],
                target=row["target"],
                per_s=(row["count"] - old["count"]) / seconds,
                bytes_per_s=(row["bytes"] - old["bytes"]) / seconds,
            )
        )
    return [wire for wire in found if wire.per_s]


def over(
    profile: Profile, architecture: str, machine: MachineFacts, config: Any, field: str, values: list[int], **how: Any
) -> list[Prediction]:
    """Predictions over the values of one field, the others held; `how` is what `predict` takes beside."""
    configs = [dataclasses.replace(config, **{field: value}) for value in values]
    return [predict(profile, architecture, machine, one, **how) for one in configs]
