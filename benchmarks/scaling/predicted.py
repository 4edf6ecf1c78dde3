# SPDX-License-Identifier: Apache-2.0
"""Predicted beside measured: architectures, environments and layouts, each predicted from a profile and then run.

For each environment and architecture the parts are measured as `shoal advise` does; every layout is predicted from that
profile by `shoal.placement.prediction`, and then run on its engine for some seconds. The error is predicted over
measured, less one; of half of the cases the run is repeated, so that the machine's own noise stands beside it.
"""

import dataclasses
import math
import statistics
from typing import Any

from benchmarks import record
from shoal import envs
from shoal.architectures import presets
from shoal.placement.advise import measure_profile
from shoal.placement.machines import machine_named
from shoal.placement.prediction import predict
from shoal.placement.trial import Arrangement, run_trial
from shoal.placement.workload import endless, make_workload

MODULE = "benchmarks.scaling.predicted"
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CartPole": ("CartPole-v1", {}),
    "asleep 1 ms": ("toy:paced", {"step_s": 0.001}),
    "asleep 20 ms": ("toy:paced", {"step_s": 0.02}),
    "busy 1 ms": ("toy:paced", {"step_s": 0.001, "busy": True}),
    "heavy-tailed": ("toy:paced", {"step_s": 0.004, "spread": 1.5}),
}
ARCHITECTURES = ("ppo", "a2c", "impala")
LAYOUTS = (("threads", 1, 8), ("threads", 2, 4), ("threads", 4, 2), ("processes", 2, 4), ("processes", 4, 2))
"""(engine, actors, environments of each)"""
UNROLL = 32


def arrangement(architecture: str, spec: Any, engine: str, actors: int, envs_each: int) -> Arrangement:
    """A layout, with batches of the same rows in all of them."""
    changed = {"num_actors": actors, "envs_per_actor": envs_each, "unroll_length": UNROLL}
    config = presets.preset(architecture, spec)
    if hasattr(config, "batch_trajectories"):
        changed |= {"batch_trajectories": actors, "queue_slots": 2 * actors}
    return Arrangement(architecture, engine, dataclasses.replace(config, **changed), changed, same_learning=False)


def cases_of(label: str, architecture: str, layouts: Any, seconds: float, profile_s: float) -> list[dict[str, Any]]:
    """All layouts of one environment and architecture."""
    env, kwargs = ENVIRONMENTS[label]
    factory = envs.resolve(env, kwargs)
    profile = measure_profile(factory, architecture, "auto", kwargs, profile_s, lambda _: None)
    workload, found = make_workload(architecture, factory, "auto"), []
    here = machine_named("here", profile)
    for i, layout in enumerate(layouts):
        wanted = arrangement(architecture, factory.spec, *layout)
        guess = predict(profile, architecture, here, wanted.config, engine=layout[0])
        unending = wanted._replace(config=endless(wanted.config))
        times = 2 if i % 2 else 1
        runs = [run_trial(unending, workload.module, workload.parts, seconds=seconds) for _ in range(times)]
        rates = [run.env_steps / run.wall_s for run in runs]
        found.append({
            "environment": label, "architecture": architecture, "engine": layout[0], "actors": layout[1],
            "envs_per_actor": layout[2], "predicted": guess.env_steps_per_s, "measured": rates[0],
            "error": guess.env_steps_per_s / rates[0] - 1, "noise": abs(rates[1] / rates[0] - 1) if times > 1 else None,
            "limit": guess.limit, "lag_predicted": guess.lag_mean, "lag_measured": runs[0].lag_mean,
        })  # fmt: skip
        one = found[-1]
        print(
            f"{label:<13} {architecture:<7} {layout[0]:<9} {layout[1]}x{layout[2]}: predicted "
            f"{one['predicted']:>9,.0f} measured {one['measured']:>9,.0f} {one['error']:+.0%}", flush=True
        )  # fmt: skip
    return found


def main() -> None:
    """Cases, table, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--environments", nargs="+", default=list(ENVIRONMENTS), choices=ENVIRONMENTS)
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run; default 4")
    given = parser.parse_args()
    if given.quick:
        given.environments, given.architectures, given.seconds = ["CartPole"], ["a2c"], 0.2
    layouts = LAYOUTS[:2] if given.quick else LAYOUTS
    began, cases = record.conditions(), []
    for label in given.environments:
        for architecture in given.architectures:
            cases += cases_of(label, architecture, layouts, given.seconds, 0.5 if given.quick else 10.0)
    summary = summarise(cases)
    rows = [[name, *(of[key] for key in ("cases", "median", "p90", "bias"))] for name, of in summary.items()]
    print("\n" + record.table(rows, ["", "cases", "median error", "90%", "bias"]))
    settings = {"environments": ENVIRONMENTS, "layouts": layouts, "unroll_length": UNROLL, "seconds": given.seconds}
    record.write("predicted", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, cases=cases)


def summarise(cases: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Errors of all cases and of each environment, engine and architecture; and the machine's own noise."""
    groups: dict[str, list[float]] = {"all": [case["error"] for case in cases]}
    for key in ("environment", "engine", "architecture"):
        for value in dict.fromkeys(case[key] for case in cases):
            groups[f"{key} {value}"] = [case["error"] for case in cases if case[key] == value]
    groups["noise of a repeat"] = [case["noise"] for case in cases if case["noise"] is not None]
    return {name: errors_of(errors) for name, errors in groups.items() if errors}


def errors_of(errors: list[float]) -> dict[str, float]:
    """How many, the median size, the 90th percentile, and the bias: the mean logarithm, above 0 for too optimistic."""
    sizes = sorted(abs(error) for error in errors)
    return {
        "cases": len(sizes),
        "median": statistics.median(sizes),
        "p90": sizes[min(len(sizes) - 1, math.ceil(0.9 * len(sizes)) - 1)],
        "bias": statistics.fmean(math.log1p(error) for error in errors),
    }


if __name__ == "__main__":
    main()
