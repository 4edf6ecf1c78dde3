# SPDX-License-Identifier: Apache-2.0
"""The books of an architecture's own run on twins, in virtual time, from when its pace is steady. Needs no JAX."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from shoal.actors.samplers import way_of
from shoal.architectures import registry
from shoal.architectures.base import Parts
from shoal.engines import Engine, Machine, make_engine
from shoal.placement.profile import Profile
from shoal.placement.trial import batch_trajectories, lag_between, learns, settling
from shoal.placement.twin_hands import TwinHands, sharing_of
from shoal.placement.twin_pool import TwinPool, stepping_of
from shoal.placement.twins import twin_learner, twin_parts, twin_unrolls
from shoal.placement.unit_costs import episode_lengths

FEW, VISITS = 5, 30
"""visits that are counted at least, and enough however short they are; or as many as take an unroll of every actor
three times"""
LONG_S = 1.0
"""virtual seconds that are enough: rounds differ where episodes do, and queues fill and empty"""


@dataclass(frozen=True)
class Reading:
    """The books at one moment."""

    now: float
    env_steps: int
    updates: int
    phases: dict[str, dict[str, float]]
    workers: dict[str, int]
    busy: dict[tuple[int, str, Any], float]
    rows: list[dict[str, Any]]


class Watch:
    """Reads the books once the pace is steady, and again some updates later."""

    def __init__(self, engine: Engine, machine: Machine, config: Any, brief: bool = False):
        each = math.ceil(config.all_actors / batch_trajectories(config))
        self.readings: list[Reading] = []
        self.lags: list[float] = []
        self.reuse = 0.0
        """what a replay memory says of it; 0 without"""
        self.counted = 0
        self._engine, self._machine, self._config = engine, machine, config
        self._before = settling(config) + 2 * each
        self._few, self._enough = max(FEW, 3 * each), max(FEW if brief else VISITS, 3 * each)

    def visit(self, state: Any, batch: list, metrics: dict[str, float]) -> Any:
        """Called after every update, or after some of them."""
        if not learns(self._config, state):
            return state
        if self._before:
            self._before -= 1
            if not self._before:
                self._read(state)
            return state
        self.counted += 1
        self.lags += [float(state.version - 1 - item.version[0]) for item in batch]
        self.reuse = metrics.get("sample_reuse", 0.0)
        long = self._engine.now() - self.readings[0].now >= LONG_S
        if self.counted >= self._enough or (long and self.counted >= self._few):
            self._read(state)
            self._engine.stop("predicted")
        return state

    def lag(self) -> tuple[float, int]:
        """(mean, largest) of what was learnt from; as the ledger has it where no batch passes by."""
        if self.lags:
            return sum(self.lags) / len(self.lags), int(max(self.lags))
        first, last = self.readings
        most = max((row["lag_max"] for row in last.rows if row["lag_max"] is not None), default=0)
        return lag_between(first.rows, last.rows), int(most)

    def _read(self, state: Any) -> None:
        engine, versions = self._engine, state.version
        books = engine.phases(), engine.headcount(), self._machine.busy(), engine.rows()
        self.readings.append(Reading(engine.now(), state.env_steps, versions, *books))


def parts_of(profile: Profile, architecture: str, config: Any, coarse: bool, at: dict[str, Any]) -> Parts:
    """Twins for a config, with environments beside their actor or in workers; `at` is what `stepping_of` takes."""
    spec, lengths, make_env = profile.env.spec(), episode_lengths(profile), None
    if config.env_workers and way_of(config) != "parallel":
        how = {"workers": config.env_workers, "stepping": stepping_of(profile, **at), "lengths": lengths}
        make_env = partial(TwinPool, spec, **how)
    gradients = config.steps_per_batch if getattr(config, "apart", False) else 1
    parts = twin_parts(spec, profile.params, gradients, lengths=lengths, whole_unrolls=coarse, make_env=make_env)
    if (processes := getattr(config, "learner_processes", 1)) > 1:
        parts = parts._replace(learner=twin_learner(profile.params, gradients, processes=processes))
    if way_of(config) == "parallel":
        hands = partial(TwinHands, twin_unrolls(spec), sharing_of(profile, architecture, config, at))
        return parts._replace(sampler=hands)
    return parts


def watched(
    parts: Parts, architecture: str, config: Any, table: dict[str, Any], machine: Machine, brief: bool
) -> Watch:
    """A run on twins at these costs, watched until enough is seen."""
    engine = make_engine("simulated", costs=table, machine=lambda: machine)
    watch = Watch(engine, machine, config, brief)
    engine.run(registry.load(architecture).run, config, parts, None, watch.visit)
    return watch
