# SPDX-License-Identifier: Apache-2.0
"""How much virtual time passes in a second of real time: an hour of IMPALA with 2,000 actors is to take under a minute.

Actors make 31 agent steps a second in unrolls of 100, each with a core of its own; the learner takes 62,500 steps a
second in batches of 128 unrolls (Espeholt et al. 2018: 250,000 frames a second at 4 frames a step). The program is
IMPALA's own `run`, on twins.
"""

import dataclasses
from typing import Any

from benchmarks import record
from shoal.architectures import impala
from shoal.engines import Machine, Site, Work, make_engine
from shoal.engines.clock import Stopwatch
from shoal.placement.twins import twin_parts
from shoal.types import ArraySpec, Discrete, EnvSpec

MODULE = "benchmarks.micro.simulated"
GOAL_S = 60.0
"""real seconds for an hour"""
HOUR_S = 3_600.0
ACTORS, UNROLL, BATCH = 2_000, 100, 128
STEPS_PER_S, LEARNER_STEPS_PER_S = 31.25, 62_500
SPEC = EnvSpec("frames", ArraySpec((4, 84, 84), "uint8"), Discrete(9))
PARAMS = 1_600_000


def run(actors: int, seconds: float) -> dict[str, Any]:
    """So much virtual time, and what it took."""
    config = dataclasses.replace(
        impala.Config(), num_actors=actors, envs_per_actor=1, unroll_length=UNROLL, batch_trajectories=BATCH,
        queue_slots=BATCH, env_steps=10**12,
    )  # fmt: skip
    costs = {
        "rollout": Work(UNROLL / STEPS_PER_S),
        "update": Work(BATCH * UNROLL / LEARNER_STEPS_PER_S, device="gpu"),
        "*": 0.0,
    }
    machine = Machine([actors + 1], lambda *_: Site(0, None))
    engine = make_engine("simulated", costs=costs, machine=lambda: machine)

    def visit(state: Any, _batch: list, _metrics: dict) -> Any:
        if engine.now() >= seconds:
            engine.stop("over")
            steps.append(state.env_steps)
        return state

    steps: list[int] = []
    watch = Stopwatch()
    engine.run(impala.run, config, twin_parts(SPEC, PARAMS, whole_unrolls=True), None, visit)
    took = watch.seconds()
    (trajectories,) = (row for row in engine.rows() if row["message"] == "TRAJ")
    return {
        "virtual_s": seconds,
        "real_s": took,
        "virtual_per_real": seconds / took,
        "hour_takes_s": took * HOUR_S / seconds,
        "env_steps_per_s": steps[0] / seconds,
        "trajectories": trajectories["count"],
        "lag_mean": trajectories["lag_mean"],
    }


def main() -> None:
    """Repeats, table, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 3")
    given = parser.parse_args()
    repeats = given.repeats or (1 if given.quick else 3)
    actors, seconds = (50, 60.0) if given.quick else (ACTORS, HOUR_S)
    began, runs = record.conditions(), []
    for _ in range(repeats):
        runs.append(run(actors, seconds))
        print(f"{seconds:,.0f} s with {actors:,} actors in {runs[-1]['real_s']:.1f} s", flush=True)
    summary = {name: record.summarise([found[name] for found in runs]) for name in runs[0]}
    rows = [[name, found["median"], found["min"], found["max"]] for name, found in summary.items()]
    print("\n" + record.table(rows, ["", "median", "least", "most"]))
    settings = {"actors": actors, "unroll": UNROLL, "batch": BATCH, "goal_s": GOAL_S}
    record.write("simulated", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs)


if __name__ == "__main__":
    main()
