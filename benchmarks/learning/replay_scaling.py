# SPDX-License-Identifier: Apache-2.0
"""How far do minibatches carry in Q-learning? DQN and its categorical form on CartPole at 32 .. 1,024 rows.

Everything but the rows of a minibatch, the update rule, the learning-rate rule and the algorithm is held: each row
is learnt from 8 times on average, so a larger minibatch means fewer steps and not more reuse; target, exploration and
importance schedules count env steps. Algorithm and update rule are crossed, since they are confounded where DQN comes
with RMSProp and categorical DQN with Adam (Stooke & Abbeel 2018, arXiv 1803.02811). Learning rates are chosen for 32
rows, for each algorithm and update rule by itself (`--tune`). A run ends where the mean return of the last 100 episodes
reaches 450. The fit is that of `benchmarks.learning.scaling`.
"""

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import shoal
from benchmarks import record
from benchmarks.learning.scaling import fit_hyperbola, run_all

MODULE = "benchmarks.learning.replay_scaling"
ENV, THRESHOLD, MOST_STEPS = "CartPole-v1", 450.0, 200_000
ROWS = (32, 64, 128, 256, 512, 1_024)
REFERENCE = 32
ALGORITHMS: dict[str, dict[str, Any]] = {"dqn": {}, "categorical": {"atoms": 51, "value_low": 0.0, "value_high": 100.0}}
HELD: dict[str, Any] = {
    "replay_ratio": 8.0, "envs_per_actor": 8, "unroll_length": 16, "replay_capacity": 50_000, "replay_start": 1_024,
    "target_interval": 1_000, "epsilon_steps": 10_000, "epsilon_final": 0.02, "double_q": True,
    "anneal_learning_rate": False, "reference_batch": REFERENCE,
}  # fmt: skip
"""a round of 128 rows is learnt from 1,024 times: one minibatch of the largest size"""
RATES = {
    ("dqn", "rmsprop"): 9e-4, ("dqn", "adam"): 1.5e-3, ("categorical", "rmsprop"): 3e-3, ("categorical", "adam"): 5e-4,
}  # fmt: skip
"""at 32 rows: of five rates each, those that reached the threshold in the fewest samples on the tuning seeds"""
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
UPDATE_RULES = ("rmsprop", "adam")
BATCH_RULES = ("constant", "sqrt", "linear")
SEEDS, TUNING_SEEDS = (300, 301), (0, 1)


class Arm(NamedTuple):
    """One combination of what is varied."""

    algorithm: str
    optimiser: str
    batch_rule: str
    rows: int
    learning_rate: float
    """for 32 rows"""


def arms(algorithms: Sequence[str], optimisers: Sequence[str], rows: Sequence[int]) -> list[Arm]:
    """Every combination; at 32 rows the learning-rate rules are one, so only one of them is there."""
    return [
        Arm(algorithm, optimiser, rule, n, RATES[algorithm, optimiser])
        for algorithm, optimiser, rule, n in itertools.product(algorithms, optimisers, BATCH_RULES, rows)
        if n != REFERENCE or rule == "constant"
    ]


def train(arm: Arm, seed: int, most_steps: int) -> dict[str, Any]:
    """One run, to the threshold or to `most_steps`, and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        result = shoal.train(
            "dqn", ENV, engine="inline", env_steps=most_steps, seed=seed, run_dir=Path(folder) / "run", quiet=True,
            stop_return=THRESHOLD, optimiser=arm.optimiser, batch_rule=arm.batch_rule, batch_size=arm.rows,
            learning_rate=arm.learning_rate, **HELD, **ALGORITHMS[arm.algorithm],
        )  # fmt: skip
    rows, last = result.metrics, result.metrics[-1]
    reached = result.stop_reason is not None
    return {
        **arm._asdict(),
        "seed": seed,
        "reached": reached,
        "env_steps": last["env_steps"] if reached else None,
        "updates": last["updates"] if reached else None,
        "return_at_end": last.get("episode_return_mean"),
        "replay_ratio": last.get("replay_ratio"),
        "step_norm": statistics.fmean(row["step_norm"] for row in rows if "step_norm" in row),
        "wall_s": last["wall_s"],
    }


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each arm over its seeds; steps and samples only where most of them reached the threshold."""
    rows = []
    for arm in dict.fromkeys(tuple(run[name] for name in Arm._fields) for run in runs):
        mine = [run for run in runs if tuple(run[name] for name in Arm._fields) == arm]
        got = [run for run in mine if run["reached"]]
        most = len(got) * 2 > len(mine)
        rows.append({
            **dict(zip(Arm._fields, arm, strict=True)),
            "reached": len(got),
            "seeds": len(mine),
            "env_steps": statistics.median(run["env_steps"] for run in got) if most else None,
            "updates": statistics.median(run["updates"] for run in got) if most else None,
            "step_norm": statistics.median(run["step_norm"] for run in mine),
        })  # fmt: skip
    return rows


def critical_batches(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each algorithm and update rule the fit through the best learning-rate rule at each size."""
    found = []
    for pair in dict.fromkeys((row["algorithm"], row["optimiser"]) for row in rows):
        mine = [row for row in rows if (row["algorithm"], row["optimiser"]) == pair and row["updates"]]
        best = {size: min((row for row in mine if row["rows"] == size), key=lambda row: row["updates"])
                for size in sorted({row["rows"] for row in mine})}  # fmt: skip
        fit = fit_hyperbola(list(best), [row["updates"] for row in best.values()])
        rules = {size: row["batch_rule"] for size, row in best.items()}
        found.append({"algorithm": pair[0], "optimiser": pair[1], "fit": fit and fit._asdict(), "best_rule": rules})
    return found


def tune(algorithms: Sequence[str], optimisers: Sequence[str], most_steps: int) -> None:
    """Which learning rate at 32 rows reaches the threshold first? Prints one line for each."""
    for algorithm, optimiser, factor in itertools.product(algorithms, optimisers, FACTORS):
        arm = Arm(algorithm, optimiser, "constant", REFERENCE, RATES[algorithm, optimiser] * factor)
        runs = [train(arm, seed, most_steps) for seed in TUNING_SEEDS]
        words = (str(run["env_steps"]) if run["reached"] else f"not ({run['return_at_end']:.0f})" for run in runs)
        print(f"{algorithm} {optimiser} {arm.learning_rate:g}: samples {', '.join(words)}", flush=True)


def main() -> None:
    """Tune, or run the study and fit."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--tune", action="store_true", help="search learning rates for 32 rows instead")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--optimisers", nargs="+", default=list(UPDATE_RULES), choices=UPDATE_RULES)
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    given = parser.parse_args()
    most_steps = 4_000 if given.quick else MOST_STEPS
    if given.tune:
        tune(given.algorithms, given.optimisers, most_steps)
        return
    began = record.conditions()
    record.QUICK_RESULTS.mkdir(parents=True, exist_ok=True)
    lines = record.QUICK_RESULTS / ("replay_scaling_quick.jsonl" if given.quick else "replay_scaling_runs.jsonl")
    if given.quick:
        lines.unlink(missing_ok=True)
        chosen = [(arm, 300) for arm in arms(["dqn"], ["adam"], [32, 1_024])]
    else:
        chosen = list(itertools.product(arms(given.algorithms, given.optimisers, given.rows), given.seeds))
    runs = run_all(chosen, partial(train, most_steps=most_steps), lines)
    rows = summarise(runs)
    critical = critical_batches(rows)
    shown = [
        [f"{r['algorithm']} {r['optimiser']} {r['batch_rule']}", r["rows"], f"{r['reached']}/{r['seeds']}",
         r["env_steps"], r["updates"], r["step_norm"]]
        for r in rows
    ]  # fmt: skip
    print("\n" + record.table(shown, ["", "rows", "reached", "samples", "steps", "step norm"]))
    fits = [
        [f"{c['algorithm']} {c['optimiser']}", c["fit"] and c["fit"]["critical"], c["fit"] and c["fit"]["error"]]
        for c in critical
    ]
    print("\n" + record.table(fits, ["", "critical batch", "error of log S"]))
    settings = {"env": ENV, "threshold": THRESHOLD, "most_steps": most_steps, "held": HELD, "algorithms": ALGORITHMS}
    record.write(
        "replay_scaling", MODULE, quick=given.quick, began=began, settings=settings, summary=rows, critical=critical,
        runs=runs,
    )  # fmt: skip


if __name__ == "__main__":
    main()
