# SPDX-License-Identifier: Apache-2.0
"""Every architecture that a profile knows, in every layout worth trying, by what it would do on a machine, within
limits on how stale and how often reused data may be. Needs no JAX.

    profile's traces --> layouts of each --> predictions --> within the limits --> fastest first
"""

from typing import Any

from shoal.architectures import presets
from shoal.architectures.assemble import default_engine
from shoal.placement.allowed import ANY, Allowed
from shoal.placement.layouts import MOST_ACTORS, arrange, split
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import Prediction, predict
from shoal.placement.profile import Profile
from shoal.placement.trial import Arrangement


def rank(profile: Profile, machine: MachineFacts, allowed: Allowed = ANY) -> list[Prediction]:
    """Predictions for all that the profile has traces of, fastest first.

    Check: without limits every traced architecture is among them; with limits, nothing outside of them is.
    """
    found = []
    for trace in profile.traces:
        config = presets.preset(trace.architecture, profile.env.spec())
        for one in layouts_of(profile, machine, trace.architecture, config):
            how: dict[str, Any] = {"engine": one.engine, "whole_unrolls": True}
            found.append(predict(profile, one.architecture, machine, one.config, **how))
    within = [one for one in found if allowed.admit(one.lag_mean, one.reuse)]
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
