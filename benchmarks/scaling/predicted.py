# SPDX-License-Identifier: Apache-2.0
"""Predicted beside measured: architectures, environments and layouts, each predicted from a profile and then run.

    profiles   the parts of every environment and architecture, as `shoal advise --measure` times them
    measure    runs every layout for some seconds on its engine; --half 1 or 2 of the cases
    compare    predicts all that was measured from the profiles: errors, lag, the best layout beside the recommended

One environment after the other, so that parts and runs are minutes apart. Rules of prediction may be set by the first
half of the cases; the second is measured after they are frozen. Of one case in eight the run is repeated, so that the
machine's own noise stands beside the errors. Everything is kept after each case, and a case that is there is not
measured again.
"""

import argparse
import json
from typing import Any

from benchmarks import record
from benchmarks.scaling import predicted_errors
from benchmarks.scaling.predicted_cases import ENVIRONMENTS, Case, architectures_for, cases_of, config_of
from shoal import envs
from shoal.architectures.assemble import working_origin
from shoal.engines.clock import Stopwatch
from shoal.placement.advise import add_traces, measure_parts
from shoal.placement.machines import machine_named
from shoal.placement.prediction import predict
from shoal.placement.profile import Profile, read_profile, write_profile
from shoal.placement.rounds import Rounds
from shoal.placement.trial import Arrangement, run_trial
from shoal.placement.workload import Workload, make_workload
from shoal.records.files import replace_json

MODULE = "benchmarks.scaling.predicted"
PROFILE_S, TRACE_S = 20.0, 0.4
"""seconds of calling the parts of an environment, and the phases of an architecture at each of two sizes"""
REPEATED = 8
"""of so many cases one is run twice"""


class Store:
    """Profiles and measured cases, in files."""

    def __init__(self, quick: bool):
        self.folder = (record.QUICK_RESULTS if quick else record.RESULTS) / "predicted"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / "measured.json"
        self.measured: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def keep(self, key: str, case: dict[str, Any]) -> None:
        """Add a case."""
        self.measured[key] = case
        replace_json(self._path, self.measured)

    def profile(self, environment: str) -> Profile:
        """What was measured of an environment."""
        return read_profile(self.path_of(environment))

    def path_of(self, environment: str) -> Any:
        """Of an environment's profile."""
        return self.folder / f"profile {environment}.json".replace(" ", "-")


def measure_profiles(given: argparse.Namespace, store: Store) -> None:
    """The parts of every environment and of all its architectures."""
    for label in given.environments:
        if store.path_of(label).exists():
            continue
        env, kwargs = ENVIRONMENTS[label]
        factory = envs.resolve(env, kwargs)
        workload = make_workload("impala" if factory.spec.shows_frames else "ppo", factory, "auto")
        seconds = 0.5 if given.quick else PROFILE_S
        with Rounds() as rounds:
            profile = measure_parts(workload, "auto", kwargs, seconds, rounds, Stopwatch(), lambda _: None)
            profile = rounds.again(profile, lambda: False)
        names = [name for name in architectures_for(factory.spec) if name in given.architectures]
        profile = add_traces(profile, workload, names, 0.05 if given.quick else TRACE_S, lambda _: None)
        write_profile(store.path_of(label), profile)
        print(f"profile of {label}: {len(names)} architectures", flush=True)


def measure_cases(given: argparse.Namespace, store: Store) -> None:
    """Run the cases that are not measured yet."""
    for label in given.environments:
        env, kwargs = ENVIRONMENTS[label]
        factory = envs.resolve(env, kwargs)
        names = tuple(name for name in architectures_for(factory.spec) if name in given.architectures)
        workloads: dict[str, Workload] = {}
        for number, case in enumerate(cases_of(label, names)):
            if case.key in store.measured or (given.half and number % 2 != given.half - 1):
                continue
            if given.quick and case.layout.actors > 1:
                continue
            if case.architecture not in workloads:
                workloads[case.architecture] = make_workload(case.architecture, factory, "auto")
            times = 2 if number // 2 % REPEATED == 0 else 1
            runs = [measured(case, workloads[case.architecture], given.seconds) for _ in range(times)]
            store.keep(case.key, {"half": number % 2 + 1, "peer": case.peer, "runs": runs})
            print(f"{case.key:<46} {runs[0]['env_steps_per_s']:>10,.0f} steps/s", flush=True)


def measured(case: Case, workload: Workload, seconds: float) -> dict[str, Any]:
    """One run."""
    config = config_of(case, workload.spec)
    module, agent = workload.module, workload.parts.agent
    parts = workload.parts._replace(
        learner=module.make_learner(config, agent),
        origin=working_origin(agent, module, config, workload.factory, "auto"),
    )
    wanted = Arrangement(case.architecture, case.layout.engine, config, {}, same_learning=False)
    trial = run_trial(wanted, module, parts, seconds=seconds)
    return {
        "env_steps_per_s": trial.env_steps / trial.wall_s, "without_others": trial.env_steps_per_s,
        "seconds": trial.wall_s, "visits": trial.updates, "lag_mean": trial.lag_mean,
    }  # fmt: skip


def compare(given: argparse.Namespace, store: Store) -> None:
    """Predict all that was measured, and keep errors, choices and the plot."""
    began, rows = record.conditions(), []
    for label in given.environments:
        profile = store.profile(label)
        here = machine_named("here", profile)
        for case in cases_of(label, tuple(trace.architecture for trace in profile.traces)):
            found = store.measured.get(case.key)
            if found is None:
                continue
            config, engine = config_of(case, profile.env.spec()), case.layout.engine
            guess = predict(profile, case.architecture, here, config, engine=engine)
            rows.append(predicted_errors.row_of(case, found, guess))
    predicted_errors.report(rows, began, given, MODULE, store.folder)


def main() -> None:
    """One of three steps, or all."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("step", nargs="?", default="all", choices=("all", "profiles", "measure", "compare"))
    parser.add_argument("--environments", nargs="+", default=list(ENVIRONMENTS), choices=ENVIRONMENTS)
    parser.add_argument("--architectures", nargs="+", default=list(predicted_errors.ARCHITECTURES))
    parser.add_argument("--half", type=int, default=0, choices=(0, 1, 2), help="of the cases; default both")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run; default 10")
    given = parser.parse_args()
    if given.quick:
        given.environments, given.architectures, given.seconds = ["CartPole"], ["a2c", "dqn"], 0.2
    store, environments = Store(given.quick), given.environments
    for label in environments:
        given.environments = [label]
        if given.step in ("all", "profiles"):
            measure_profiles(given, store)
        if given.step in ("all", "measure"):
            measure_cases(given, store)
    given.environments = environments
    if given.step in ("all", "compare"):
        compare(given, store)


if __name__ == "__main__":
    main()
