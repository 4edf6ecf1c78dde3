# SPDX-License-Identifier: Apache-2.0
"""Every architecture that a profile knows, in every layout worth trying, by what it would do on a machine, within
limits on how stale and how often reused data may be. Needs no JAX.

    profile's traces --> layouts of each --> predictions --> within the limits --> fastest first
"""

from dataclasses import dataclass
from typing import Any

from shoal.architectures import presets
from shoal.architectures.assemble import default_engine
from shoal.errors import ConfigError
from shoal.placement.layouts import MOST_ACTORS, arrange, split
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import Prediction, predict
from shoal.placement.profile import Profile
from shoal.placement.trial import Arrangement

SOME = 1e-9
"""slack of comparisons"""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What data may be learnt from; None: any."""

    max_lag: float | None = None
    """updates since the params that made them, in the mean"""
    max_reuse: float | None = None
    """times that each row is learnt from"""

    def __post_init__(self):
        if self.max_lag is not None and self.max_lag < 0:
            raise ConfigError(f"--max-lag {self.max_lag:g} must be 0 or more")
        if self.max_reuse is not None and not self.max_reuse > 0:
            raise ConfigError(f"--max-reuse {self.max_reuse:g} must be above 0")

    def admit(self, lag: float | None, reuse: float) -> bool:
        """Whether data so stale and so often used are within."""
        stale = self.max_lag is not None and (lag or 0.0) > self.max_lag + SOME
        worn = self.max_reuse is not None and reuse > self.max_reuse + SOME
        return not (stale or worn)

    @property
    def words(self) -> str:
        """For people."""
        said = {"lag up to": self.max_lag, "reuse up to": self.max_reuse}
        return ", ".join(f"{name} {value:g}" for name, value in said.items() if value is not None)


ANY = Bounds()


def rank(profile: Profile, machine: MachineFacts, bounds: Bounds = ANY) -> list[Prediction]:
    """Predictions for all that the profile has traces of, fastest first.

    Check: without bounds every traced architecture is among them; with bounds, nothing outside of them is.
    """
    found = []
    for trace in profile.traces:
        config = presets.preset(trace.architecture, profile.env.spec())
        for one in layouts_of(profile, machine, trace.architecture, config):
            how: dict[str, Any] = {"engine": one.engine, "whole_unrolls": True}
            found.append(predict(profile, one.architecture, machine, one.config, **how))
    within = [one for one in found if bounds.admit(one.lag_mean, one.reuse)]
    return sorted(within, key=lambda one: -one.env_steps_per_s)


def layouts_of(profile: Profile, machine: MachineFacts, architecture: str, config: Any) -> list[Arrangement]:
    """As preset, and the same environments over more actors, on threads and on processes; batches keep their rows."""
    engines = ["threads", *(["processes"] if profile.env.named else [])]
    usual = arrange(architecture, config, {})
    cores = max(1, round(machine.nodes * machine.cores))
    wanted = sorted({config.num_actors, 2, cores, 2 * cores, min(config.num_envs, MOST_ACTORS)})
    found = {(usual.engine, config.num_actors): usual}
    for actors in wanted:
        for engine in engines:
            for one in split(architecture, config, actors, engine=engine):
                found.setdefault((engine, actors), one)
    if default_engine(architecture, config) == "inline":
        return list(found.values())
    return [one for one in found.values() if one.engine != "inline"]
