# SPDX-License-Identifier: Apache-2.0
"""What an architecture would do on a machine: its own `run` on twins, in virtual time, at the costs of a profile.

    profile, machine --> unit costs --> simulated engine --> steps a second, who is busy, what is the limit

Needs no JAX. What is not in it: the cost of messages within a node, and of processes beside their work.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from shoal.actors.samplers import way_of
from shoal.architectures import presets, registry
from shoal.architectures.base import Parts
from shoal.engines import Engine, Machine, make_engine
from shoal.errors import ConfigError
from shoal.placement.machines import MachineFacts
from shoal.placement.profile import Profile
from shoal.placement.trial import batch_trajectories, passes, settling
from shoal.placement.twin_pool import TwinPool, costs_of_waiting, stepping_of
from shoal.placement.twins import twin_parts
from shoal.placement.unit_costs import costs, episode_length
from shoal.records.readable import percent

PREDICTED = ("ppo", "a2c", "impala", "appo", "seed")
"""architectures whose learner takes trajectories, which is what a profile knows the cost of"""
UPDATES = 20
"""that are counted, or as many as take an unroll of every actor three times"""
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
    seed: int = 0,
) -> Prediction:
    """Predict for a config, or for the architecture's preset.

    Args:
      engine: processes, where every worker has an interpreter of its own, or threads, where those of a node share one.
      env_times: seconds of an environment step, beside those that were measured.
      whole_unrolls: simulate an unroll as one piece; None where there are many actors. Never with environment workers.
      seed: of how long single steps take, where they were measured to differ.

    Raises:
      ConfigError: an architecture whose costs no profile has, or a way to collect that is not simulated.

    Check: twice the same gives the same; on one core, it takes the sum of all that is computed.
    """
    if architecture not in PREDICTED:
        raise ConfigError(f"{architecture} cannot be predicted yet: profiles have costs of {', '.join(PREDICTED)} only")
    if config is not None and way_of(config) == "parallel":
        raise ConfigError(
            "sampler='parallel' cannot be predicted yet: its workers act for themselves, beside their actor; use "
            "--sampler central, alternating or serial"
        )
    preset = presets.preset(architecture, profile.env.spec())
    asked = preset if config is None else config
    config = dataclasses.replace(asked, env_steps=10**12)
    coarse = config.all_actors > STEP_BY_STEP if whole_unrolls is None else whole_unrolls
    coarse = coarse and not config.env_workers
    made = machine.make(separate=engine == "processes")
    at = {"speed": machine.speed, "env_times": env_times, "seed": seed}
    parts = parts_of(profile, config, coarse, at)
    table = costs(profile, config, **at)
    if config.env_workers:
        table = costs_of_waiting(table, profile, config, machine.speed)
    watch = watched(parts, architecture, config, table, made)
    first, last = watch.readings
    seconds = last.now - first.now
    shared, roles = shares(first.busy, last.busy, seconds), roles_of(first, last, config)
    return Prediction(
        architecture=architecture,
        machine=machine,
        engine=engine,
        settings=changed(preset, asked),
        env_steps_per_s=(profile.valid_frac if coarse else 1.0) * (last.env_steps - first.env_steps) / seconds,
        updates_per_s=watch.counted / seconds,
        roles=roles,
        shared=shared,
        limit=limit_of(shared, roles),
        lag_mean=sum(watch.lags) / max(1, len(watch.lags)),
        lag_max=int(max(watch.lags, default=0)),
        reuse=float(passes(config)),
        data_bytes=data_bytes(profile, config),
        wires=tuple(wires_of(first.rows, last.rows, seconds)),
    )


@dataclass(frozen=True)
class Reading:
    """The books at one moment."""

    now: float
    env_steps: int
    phases: dict[str, dict[str, float]]
    busy: dict[tuple[int, str, Any], float]
    rows: list[dict[str, Any]]


class Watch:
    """Reads the books once the pace is steady, and again some updates later."""

    def __init__(self, engine: Engine, machine: Machine, config: Any):
        each = math.ceil(config.all_actors / batch_trajectories(config))
        self.readings: list[Reading] = []
        self.lags: list[float] = []
        self.counted = 0
        self._engine, self._machine = engine, machine
        self._before, self._wanted = settling(config) + 2 * each, max(UPDATES, 3 * each)

    def visit(self, state: Any, batch: list, _metrics: dict[str, float]) -> Any:
        """Called after every update."""
        if self._before:
            self._before -= 1
            if not self._before:
                self._read(state)
            return state
        self.counted += 1
        self.lags += [float(state.version - 1 - item.version[0]) for item in batch]
        if self.counted == self._wanted:
            self._read(state)
            self._engine.stop("predicted")
        return state

    def _read(self, state: Any) -> None:
        engine = self._engine
        books = engine.phases(), self._machine.busy(), engine.rows()
        self.readings.append(Reading(engine.now(), state.env_steps, *books))


def parts_of(profile: Profile, config: Any, coarse: bool, at: dict[str, Any]) -> Parts:
    """Twins for a config, with environments beside their actor or in workers; `at` is what `stepping_of` takes."""
    spec, length, make_env = profile.env.spec(), episode_length(profile), None
    if config.env_workers:
        how = {"workers": config.env_workers, "stepping": stepping_of(profile, **at), "episode_length": length}
        make_env = partial(TwinPool, spec, **how)
    return twin_parts(spec, profile.params, episode_length=length, whole_unrolls=coarse, make_env=make_env)


def watched(parts: Parts, architecture: str, config: Any, table: dict[str, Any], machine: Machine) -> "Watch":
    """The books of an architecture's own run on twins, from when its pace is steady."""
    engine = make_engine("simulated", costs=table, machine=lambda: machine)
    watch = Watch(engine, machine, config)
    engine.run(registry.load(architecture).run, config, parts, None, watch.visit)
    return watch


def changed(preset: Any, config: Any) -> dict[str, Any]:
    """Fields in which a config departs from a preset."""
    names = (field.name for field in dataclasses.fields(preset))
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(preset, name)}


def roles_of(first: Reading, last: Reading, config: Any) -> dict[str, Role]:
    """How busy the workers of each role were between two readings."""
    workers, found = {"learner": 1, "actor": config.all_actors, "inference": 1}, {}
    for role, number in workers.items():
        before, after = first.phases.get(role, {}), last.phases.get(role, {})
        if after:
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
        word = {"cores": "cores", "python": "interpreter", "link": "link", "device": "device"}[kind]
        found[f"{word} of node {node}" if several else word] = (busy - first.get((node, kind, name), 0.0)) / seconds
    return found


def limit_of(shared: dict[str, float], roles: dict[str, Role]) -> str:
    """What is busy all the time, or who waits for whom."""
    full = [name for name, share in shared.items() if share >= FULL]
    links = [name for name in full if name.startswith("link")]
    if links:
        return f"the {links[0]} to the others is full"
    if roles["learner"].busy >= FULL and not any(name.startswith("cores") for name in full):
        return "the learner: it is always at work"
    if full:
        return f"the {full[0]}: always busy"
    if roles["actor"].busy >= FULL:
        return "actors: they are always at work or their environments wait; more of them would help"
    waits = ", ".join(f"{role}s {percent(1 - use.busy)}" for role, use in roles.items())
    return f"waiting for one another (of their time {waits}): overlap would help"


def data_bytes(profile: Profile, config: Any) -> int:
    """Bytes of the unrolls that actors make, of those in the queue or in a batch, and of everybody's params."""
    row = profile.env.obs_bytes + 32
    unroll = row * config.envs_per_actor * (config.unroll_length + 1)
    held = config.all_actors + getattr(config, "queue_slots", config.all_actors) + batch_trajectories(config)
    return unroll * held + 4 * profile.params * (config.all_actors + 1)


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
