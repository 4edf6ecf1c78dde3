# SPDX-License-Identifier: Apache-2.0
"""Every architecture that a profile knows, in every layout worth trying, by what it would do on a machine, within
limits on how stale and how often reused data may be. Needs no JAX.

    profile's traces --> layouts of each --> predictions --> within the limits --> fastest first
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from shoal.architectures import presets
from shoal.architectures.assemble import default_engine
from shoal.placement.allowed import ANY, Allowed
from shoal.placement.bounds import compiled_step_s, env_kind, usual_step
from shoal.placement.layouts import LONG_STEP_S, MOST_ACTORS, WIDER, arrange, split, widen
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import Prediction, predict
from shoal.placement.profile import Profile
from shoal.placement.trial import Arrangement
from shoal.placement.verdict import train_line

WIDENED = ("ppo", "a2c", "impala", "appo")
"""architectures of which wider actors are ranked too: batches then are made of as many rows, of other environments"""


def rank(profile: Profile, machine: MachineFacts, allowed: Allowed = ANY) -> list[Prediction]:
    """Predictions for all that the profile has traces of, fastest first.

    Check: without limits every traced architecture is among them; with limits, nothing outside of them is.
    """
    found = []
    for trace in profile.traces:
        config = presets.preset(trace.architecture, profile.env.spec())
        for one in layouts_of(profile, machine, trace.architecture, config):
            how: dict[str, Any] = {"engine": one.engine, "whole_unrolls": True, "brief": True}
            found.append(predict(profile, one.architecture, machine, one.config, **how))
    within = [one for one in found if allowed.admit(one.lag_mean, one.reuse)]
    return sorted(within, key=lambda one: -one.env_steps_per_s)


def layouts_of(profile: Profile, machine: MachineFacts, architecture: str, config: Any) -> list[Arrangement]:
    """As preset; the same environments over more actors, on threads and on processes, or over environment workers; and
    more environments an actor with shorter unrolls. Batches keep their rows."""
    engines = ["threads", *(["processes"] if profile.env.named else [])]
    usual = arrange(architecture, config, {})
    cores = max(1, round(machine.nodes * machine.cores))
    wanted = sorted({config.num_actors, 2, cores, 2 * cores, min(config.num_envs, MOST_ACTORS)})
    found = {(usual.engine, config.num_actors): usual}
    for actors in wanted:
        for engine in engines:
            for one in split(architecture, config, actors, engine=engine):
                found.setdefault((engine, actors), one)
    more = [*with_workers(profile, machine, architecture, config), *with_more(profile, architecture, config)]
    if default_engine(architecture, config) == "inline":
        return [*found.values(), *more]
    return [one for one in [*found.values(), *more] if one.engine != "inline"]


def with_workers(profile: Profile, machine: MachineFacts, architecture: str, config: Any) -> list[Arrangement]:
    """Central inference and the alternating sampler over environment workers: one for each core, or for each
    environment where these wait.

    Only where a step is worth a process: handing actions and rows over costs, and no prediction knows how much.
    """
    waits = env_kind(profile) == "waits"
    worth_it = (waits or usual_step(profile).mean_s >= LONG_STEP_S) and compiled_step_s(profile) is None
    if not (profile.env.named and worth_it and "central" in config.samplers):
        return []
    envs, cores = config.envs_per_actor, max(1, round(machine.cores))
    central = min(envs, envs if waits else cores)
    ways = [("central", central)] if central > 1 else []
    if envs % 2 == 0:
        ways.append(("alternating", envs // 2 if waits else max(1, min(envs, cores) // 2)))
    found = []
    for sampler, workers in ways:
        fields = {"sampler": sampler, "env_workers": workers}
        engine = default_engine(architecture, dataclasses.replace(config, **fields))
        found.append(arrange(architecture, config, fields, engine=engine))
    return found


def with_more(profile: Profile, architecture: str, config: Any) -> list[Arrangement]:
    """More environments an actor, where most of a step does not depend on their number: other learning."""
    pays = profile.env_step.line().half_size >= WIDER * config.envs_per_actor and env_kind(profile) != "fills"
    return widen(architecture, config) if pays and architecture in WIDENED else []


def learns_alike(profile: Profile, one: Prediction) -> bool:
    """Whether as many environments take as many steps for each batch as with the architecture's preset."""
    preset, layout = presets.preset(one.architecture, profile.env.spec()), one.layout
    number = layout["num_actors"] * layout["envs_per_actor"]
    return number == preset.num_envs and layout["unroll_length"] == preset.unroll_length


def run_line(profile: Profile, found: Sequence[Prediction]) -> str | None:
    """The line that trains in the fastest layout that learns as its architecture's preset does; None without one."""
    best = next((one for one in found if learns_alike(profile, one)), None)
    if best is None:
        return None
    config = dataclasses.replace(presets.preset(best.architecture, profile.env.spec()), **best.settings)
    engine = None if best.engine == default_engine(best.architecture, config) else best.engine
    return train_line(profile, best.architecture, best.settings, engine)
