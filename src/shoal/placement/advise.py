# SPDX-License-Identifier: Apache-2.0
"""Measure, decide, and write the profile: what `shoal advise` does. Imports JAX."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shoal import __version__, envs
from shoal.architectures import registry
from shoal.engines.clock import Stopwatch
from shoal.placement import layouts, measure
from shoal.placement.allowed import ANY, Allowed
from shoal.placement.arithmetic import count_flops
from shoal.placement.compare import here
from shoal.placement.in_step import measure_in_step
from shoal.placement.passing import measure_crowding, measure_passing, measure_relayed
from shoal.placement.profile import VERSION, EnvFacts, Profile, check_writable, write_profile
from shoal.placement.rounds import Rounds
from shoal.placement.traces import measure_trace
from shoal.placement.trial import Arrangement, layout, run_trial, settling, shorten
from shoal.placement.unit_costs import episode_lengths
from shoal.placement.verdict import Advice, advise_on, choose, worth
from shoal.placement.workload import endless, make_workload
from shoal.records.hardware import usable_cores
from shoal.trees import tree_items
from shoal.types import Discrete, MultiDiscrete

SECONDS = 20.0
"""spent calling what is measured; compiling comes on top"""
LIMIT = 2.0
"""times SECONDS after which no further run begins"""
LAST = 2.4
"""times SECONDS after which no call is timed once more"""
LITTLE_LEARNING = 0.1
"""share of updates below which a run may be measured in shorter unrolls"""
SHARES = {
    "env": 0.025,
    "inference": 0.005,
    "update": 0.015,
    "estimate": 0.005,
    "transfer": 0.005,
    "passing": 0.01,
    "beside": 0.015,
    "trace": 0.02,
    "copy": 0.0025,
    "crowding": 0.01,
    "trial": 0.1,
    "in_step": 0.05,
}
"""of the seconds, for each call or run that is timed"""


def advise(  # noqa: PLR0913 - what is measured, and how
    env: Any,
    architecture: str | None = None,
    *,
    network: str = "auto",
    env_kwargs: dict[str, Any] | None = None,
    measured: Sequence[str] = (),
    engine: str | None = None,
    in_step: bool = False,
    allowed: Allowed = ANY,
    json_path: Path | None = None,
    seconds: float = SECONDS,
    tell: Callable[[str], Any] = lambda _: None,
) -> tuple[Advice, Profile]:
    """Measure an environment and a network on this machine and say what to parallelise, when CPU, when GPU.

    Args:
      env: an id, `module:Class`, or a callable that returns a Gymnasium environment.
      architecture: the one whose stages are wanted; None for whichever is recommended.
      measured: architectures whose parts are timed too, so that `predict` knows their costs.
      engine: ray, to time its messages too, over an agent that runs here.
      in_step: time updates of learners in step too, for which the environment needs a name.
      allowed: how stale and how often used data may be in what is recommended.
      json_path: a file for the profile.
      seconds: how long to call what is measured; less is noisier.
      tell: called with what is being measured.

    Raises:
      ConfigError: unknown names, or a file that cannot be written; before anything is measured.
      EnvironmentFault: the environment failed while it was measured.
    """
    layouts.check_considered(architecture)
    for name in measured:
        registry.load(name)
    if json_path is not None:
        check_writable(json_path)
    factory = envs.resolve(env, env_kwargs)
    profile = measure_profile(factory, architecture, network, env_kwargs or {}, seconds, tell, measured)
    if engine == "ray":
        profile = add_relayed(profile, seconds, tell)
    if in_step:
        profile = add_in_step(profile, make_workload(profile.architecture, factory, network), seconds, tell)
    if json_path is not None:
        write_profile(json_path, profile)
    return advise_on(profile, architecture, allowed), profile


def measure_profile(
    factory: envs.EnvFactory,
    architecture: str | None,
    network: str,
    env_kwargs: dict[str, Any],
    seconds: float,
    tell: Callable[[str], Any],
    measured: Sequence[str] = (),
) -> Profile:
    """Time the parts, then run architectures for a moment each while time is left, then time the parts once more."""
    watch, neighbours = Stopwatch(), measure.Neighbours()
    tell("how long the network takes to build")
    # frames make updates the dear part, and several passes over each batch too dear to measure
    architecture = architecture or ("impala" if factory.spec.shows_frames else "ppo")
    workload = make_workload(architecture, factory, network)
    with Rounds() as rounds:
        profile = measure_parts(workload, network, env_kwargs, seconds, rounds, watch, tell)
        profile = add_traces(profile, workload, (architecture, *measured), SHARES["trace"] * seconds, tell)
        left = LIMIT * seconds - rounds.cost_s
        runs = Runs(profile, workload, watch, SHARES["trial"] * seconds, left, tell)
        runs.run()
        tell("the parts once more, for how well that agrees")
        profile = rounds.again(runs.profile, lambda: watch.seconds() > LAST * seconds)
    return replace(profile, measured_s=watch.seconds(), disturbed=neighbours.share())


def measure_parts(
    workload: Any,
    network: str,
    env_kwargs: dict[str, Any],
    seconds: float,
    rounds: Rounds,
    watch: Stopwatch,
    tell: Callable[[str], Any],
) -> Profile:
    """A profile without runs and traces: all other parts alone."""
    factory, took = workload.factory, {name: share * seconds for name, share in SHARES.items()}

    def late() -> bool:
        return watch.seconds() > LIMIT * seconds / 2

    tell("the environment alone")
    env = measure.measure_env(factory, workload.config.envs_per_actor, took["env"], rounds)
    tell("inference over batch sizes")
    inference = measure.measure_inference(workload, took["inference"], rounds, late)
    tell("updates over batch sizes")
    update = measure.measure_update(workload, took["update"], rounds, late)
    tell("two threads that act and step")
    acting_beside = measure.measure_acting_beside(workload, env.loops, took["beside"])
    tell("messages between workers")
    return Profile(
        version=VERSION,
        shoal=__version__,
        hardware=here(measure.all_devices()),
        env=env_facts(factory, env_kwargs),
        network=network,
        params=int(workload.params.size),
        flops=count_flops(workload),
        architecture=workload.architecture,
        env_step=env.step,
        env_reset=env.reset,
        valid_frac=env.valid_frac,
        episode_spread=env.episode_spread,
        env_beside=env.beside,
        acting_beside=acting_beside,
        inference=inference,
        update=update,
        estimate=measure.measure_estimate(workload, took["estimate"], rounds),
        transfer=measure.measure_transfer(took["transfer"], rounds),
        copy=measure.measure_copy(took["copy"], rounds),
        crowding=measure_crowding(usable_cores(), took["crowding"]),
        traces=(),
        passing=measure_passing(took["passing"]),
        trials=(),
        disturbed=0.0,
        measured_s=watch.seconds(),
    )


def add_traces(
    profile: Profile, workload: Any, architectures: Sequence[str], seconds: float, tell: Callable[[str], Any]
) -> Profile:
    """The profile with the costs of these architectures' phases, in the place of those it had."""
    found = {trace.architecture: trace for trace in profile.traces}
    for name in dict.fromkeys(architectures):
        tell(f"the phases of {name}")
        # agents differ, so only the workload's own parameters fit its own architecture
        own = workload if name == workload.architecture else make_workload(name, workload.factory, profile.network)
        # of one length: batches of whole episodes would otherwise take on forms that compile while they are timed
        found[name] = measure_trace(own, episode_lengths(profile)._replace(spread=0.0), seconds)
    return replace(profile, traces=tuple(found.values()))


def add_relayed(profile: Profile, seconds: float, tell: Callable[[str], Any] = lambda _: None) -> Profile:
    """The profile with what messages cost over the agent of a cluster's node, timed in about two seconds."""
    tell("messages over an agent of a cluster's node")
    watch = Stopwatch()
    relayed = measure_relayed(SHARES["passing"] * seconds)
    return replace(profile, relayed=relayed, measured_s=profile.measured_s + watch.seconds())


def add_in_step(
    profile: Profile, workload: Any, seconds: float, tell: Callable[[str], Any] = lambda _: None
) -> Profile:
    """The profile with what updates cost that two learners share, timed in some ten seconds and what frames take to
    compile."""
    tell("updates that two learners share")
    watch = Stopwatch()
    found = measure_in_step(workload, profile.network, SHARES["in_step"] * seconds)
    return replace(profile, in_step=found, measured_s=profile.measured_s + watch.seconds())


class Runs:
    """Short runs of real architectures; the profile gains one trial with each."""

    def __init__(
        self,
        profile: Profile,
        workload: Any,
        watch: Stopwatch,
        seconds: float,
        limit: float,
        tell: Callable[[str], Any],
    ):
        self.profile, self.seconds = profile, seconds
        self._watch, self._limit, self._tell = watch, limit, tell
        self._workloads = {workload.architecture: workload}

    def run(self) -> None:
        """The profile's own architecture in any case; the rest while there is time, in order of promise."""
        found = layouts.arrangements(self.profile)
        own = next(a for a in found if a.architecture == self.profile.architecture and not a.changed)
        self._run(own)
        others = [(worth(layouts.predict(self.profile, a)), a) for a in found if a is not own and a.same_learning]
        for _, arrangement in sorted(others, key=lambda pair: -pair[0]):
            self._run(arrangement, only_if_time=True)
        best = choose(list(self.profile.trials))
        for arrangement in found:
            if arrangement.architecture == best.architecture and not arrangement.same_learning:
                self._run(arrangement, only_if_time=True)

    def _run(self, arrangement: Arrangement, only_if_time: bool = False) -> None:
        predicted = layouts.predict(self.profile, arrangement)
        batch_s = predicted.wall_s / predicted.updates
        # where learning counts, shorter unrolls would change its batches and with them its pace
        collects = predicted.phases["learner"]["update"] < LITTLE_LEARNING * predicted.wall_s
        cut = shorten(arrangement, batch_s, self.seconds) if collects else arrangement
        batch_s *= cut.config.unroll_length / arrangement.config.unroll_length
        # some updates go by before the window opens, and one ends in it
        needed = self.seconds + (1 + settling(cut.config)) * batch_s
        if only_if_time and self._watch.seconds() + needed > self._limit:
            return
        name = arrangement.architecture
        self._tell(f"{name}, {layouts.layout_words(layout(arrangement.config), arrangement.engine)}")
        if name not in self._workloads:
            known = next(iter(self._workloads.values()))
            self._workloads[name] = make_workload(name, known.factory, self.profile.network, known.params)
        workload = self._workloads[name]
        unending = cut._replace(config=endless(cut.config))
        trial = run_trial(unending, workload.module, workload.parts, seconds=self.seconds)
        trial = replace(trial, settings=layout(arrangement.config))
        self.profile = replace(self.profile, trials=(*self.profile.trials, trial))


def env_facts(factory: envs.EnvFactory, env_kwargs: dict[str, Any]) -> EnvFacts:
    """An environment as a profile names it."""
    spec = factory.spec
    if isinstance(spec.action, Discrete):
        action, sizes = "discrete", (spec.action.n,)
    elif isinstance(spec.action, MultiDiscrete):
        action, sizes = "multi_discrete", spec.action.sizes
    else:
        action, sizes = "box", (len(spec.action.low),)
    return EnvFacts(
        id=factory.name,
        settings=env_kwargs,
        obs=dict(tree_items(spec.obs)),
        action=action,
        action_sizes=sizes,
        named=factory.origin is not None,
    )
