# SPDX-License-Identifier: Apache-2.0
"""What the simulated engine says of the layouts that `benchmarks.scaling.cluster` measured, and of larger clusters.

Parts of both environments are measured first, on one machine, messages over an agent among them. Both nodes of the
measured cluster share this machine's cores and all actors are on one, so they are predicted as one machine on the
engine ray. Larger clusters have 32 cores a node, four actors on each, and links of 10 Gb/s with 50 us of delay: nobody
has compared those.
"""

import json
from typing import Any

from benchmarks import record
from benchmarks.scaling.cluster import ARCHITECTURES, ENVIRONMENTS, config_of
from shoal import envs
from shoal.engines.clock import Stopwatch
from shoal.placement.advise import add_relayed, add_traces, measure_parts
from shoal.placement.machines import machine_named
from shoal.placement.prediction import predict
from shoal.placement.profile import Profile
from shoal.placement.rounds import Rounds
from shoal.placement.workload import make_workload

MODULE = "benchmarks.scaling.cluster_predicted"
PARTS_S, TRACE_S, MESSAGES_S = 12.0, 4.0, 50.0
NODES, ACTORS_A_NODE = (1, 10, 100, 1000), 4


def profile_of(env: str, *, quick: bool) -> Profile:
    """What the environment, the networks and the wires cost here."""
    workload = make_workload("ppo", envs.resolve(env), "auto")
    with Rounds() as rounds:
        profile = measure_parts(
            workload, "auto", {}, 0.5 if quick else PARTS_S, rounds, Stopwatch(), lambda _: None
        )  # fmt: skip
        profile = rounds.again(profile, lambda: False)
    profile = add_traces(profile, workload, ARCHITECTURES, 0.05 if quick else TRACE_S, lambda _: None)
    return add_relayed(profile, 5.0 if quick else MESSAGES_S)


def beside_measured(profiles: dict[str, Profile], quick: bool) -> list[dict[str, Any]]:
    """Every layout that was measured."""
    folder = record.QUICK_RESULTS if quick else record.RESULTS
    rows = []
    for found in json.loads((folder / "cluster_scaling.json").read_text())["rows"]:
        profile, architecture = profiles[found["environment"]], found["architecture"]
        config = config_of(architecture, ENVIRONMENTS[found["environment"]], found["actors"], found["sampler"])
        guess = predict(profile, architecture, machine_named("here", profile), config, engine="ray")
        measured = found["steps_per_s"]["median"]
        rows.append({
            "environment": found["environment"], "architecture": architecture,
            "sampler": found["sampler"], "actors": found["actors"],
            "measured": measured, "predicted": guess.env_steps_per_s, "error": guess.env_steps_per_s / measured - 1,
            "limit": guess.limit, "lag_predicted": guess.lag_mean, "lag_measured": found["lag"],
        })  # fmt: skip
    return rows


def on_paper(profiles: dict[str, Profile], nodes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Clusters that are not here."""
    rows = []
    for label, profile in profiles.items():
        for architecture in ARCHITECTURES:
            for count in nodes:
                config = config_of(architecture, ENVIRONMENTS[label], ACTORS_A_NODE * count)
                guess = predict(profile, architecture, machine_named(f"{count}x32", profile), config, brief=True)
                rows.append({
                    "environment": label, "architecture": architecture, "nodes": count, "actors": config.num_actors,
                    "env_steps_per_s": guess.env_steps_per_s, "limit": guess.limit, "lag": guess.lag_mean,
                    "shared": guess.shared,
                })  # fmt: skip
                print(label, architecture, count, f"{guess.env_steps_per_s:,.0f}", guess.limit, flush=True)
    return rows


def main() -> None:
    """Measure, predict, print, keep."""
    given = record.arguments(MODULE, __doc__).parse_args()
    began = record.conditions()
    profiles = {label: profile_of(env, quick=given.quick) for label, env in ENVIRONMENTS.items()}
    rows = beside_measured(profiles, given.quick)
    table = [
        (" ".join(r[name] for name in ("architecture", "sampler", "environment")), r["actors"], r["measured"],
         r["predicted"], f"{r['error']:+.0%}")
        for r in rows
    ]  # fmt: skip
    print(record.table(table, ("layout", "actors", "measured", "predicted", "error")))
    paper = on_paper(profiles, NODES[:2] if given.quick else NODES)
    record.write("cluster_predicted", MODULE, quick=given.quick, began=began, rows=rows, on_paper=paper)


if __name__ == "__main__":
    main()
