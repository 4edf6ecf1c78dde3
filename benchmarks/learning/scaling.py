# SPDX-License-Identifier: Apache-2.0
"""How far do batch size and update rule carry? Steps and samples to a threshold, crossed with the algorithm.

Everything but the number of environments, the update rule, the learning-rate rule and the algorithm is held: CartPole,
32 * environments rows a gradient step in A2C as in PPO, learning rates constant over a run and chosen for 256 rows, for
each algorithm and update rule by itself (`--tune`), so that the effect of a rule is not that of its rate or of the
algorithm it usually comes with. A run ends where the mean return of the last 100 episodes reaches 450.

S gradient steps and E samples to the threshold follow (S / S_min - 1)(E / E_min - 1) = 1 (McCandlish et al. 2018,
arXiv 1812.06162, equation 2.11) if learning rates suit each batch: the fit takes the best learning-rate rule at each
size. Its critical batch E_min / S_min stands beside the noise scale that learners' gradients gave in the same runs.
"""

import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import shoal
from benchmarks import record
from benchmarks.learning.scaling_plot import plot
from shoal.learners.instruments import noise_scale

MODULE = "benchmarks.learning.scaling"
ENV, THRESHOLD, MOST_STEPS = "CartPole-v1", 450.0, 1_000_000
ENVS = (4, 8, 32, 128)
ROWS_PER_ENV = 32
ALGORITHMS: dict[str, dict[str, Any]] = {
    "a2c": {"unroll_length": ROWS_PER_ENV},
    "ppo": {"unroll_length": 4 * ROWS_PER_ENV, "minibatches": 4},
}
RATES = {
    ("a2c", "sgd"): 0.9, ("a2c", "momentum"): 0.03, ("a2c", "rmsprop"): 2e-3, ("a2c", "adam"): 2e-3,
    ("ppo", "sgd"): 0.3, ("ppo", "momentum"): 0.03, ("ppo", "rmsprop"): 3e-3, ("ppo", "adam"): 7.5e-3,
}  # fmt: skip
"""at 256 rows, from `--tune`"""
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
UPDATE_RULES = ("sgd", "momentum", "rmsprop", "adam")
BATCH_RULES = ("constant", "sqrt", "linear")
LEARNERS = 4
"""shares of a batch whose gradients are compared, all on one device"""
SEEDS, TUNING_SEEDS, TUNING_STEPS = (300, 301), (0, 1), 300_000


class Arm(NamedTuple):
    """One combination of what is varied."""

    algorithm: str
    optimiser: str
    batch_rule: str
    envs: int
    learning_rate: float
    """for 256 rows"""

    @property
    def rows(self) -> int:
        """Of one gradient step."""
        return ROWS_PER_ENV * self.envs


def arms(algorithms: Sequence[str], optimisers: Sequence[str], envs: Sequence[int]) -> list[Arm]:
    """Every combination; at 256 rows the learning-rate rules are one, so only one of them is there."""
    crossed = itertools.product(algorithms, optimisers, BATCH_RULES, envs)
    return [
        Arm(algorithm, optimiser, rule, n, RATES[algorithm, optimiser])
        for algorithm, optimiser, rule, n in crossed
        if n * ROWS_PER_ENV != 256 or rule == "constant"
    ]


def train(arm: Arm, seed: int, most_steps: int, **fields: Any) -> Any:
    """One run, to the threshold or to `most_steps`."""
    with tempfile.TemporaryDirectory() as folder:
        return shoal.train(
            arm.algorithm, ENV, engine="inline", env_steps=most_steps, seed=seed, run_dir=Path(folder) / "run",
            quiet=True, stop_return=THRESHOLD, envs_per_actor=arm.envs, optimiser=arm.optimiser,
            batch_rule=arm.batch_rule, reference_batch=256, learning_rate=arm.learning_rate,
            anneal_learning_rate=False, **ALGORITHMS[arm.algorithm], **fields,
        )  # fmt: skip


def measure(arm: Arm, seed: int, most_steps: int) -> dict[str, Any]:
    """A run with all instruments on, and what they said."""
    result = train(arm, seed, most_steps, layer_norms=True, gradient_noise=True, learners=LEARNERS, learner_devices=1)
    rows, last = result.metrics, result.metrics[-1]
    reached = result.stop_reason is not None
    noise = noise_scale([row["noise/trace"] for row in rows], [row["noise/signal"] for row in rows])
    late = rows[len(rows) // 2 :]
    later = noise_scale([row["noise/trace"] for row in late], [row["noise/signal"] for row in late])
    return {
        **arm._asdict(),
        "rows": arm.rows,
        "seed": seed,
        "reached": reached,
        "env_steps": last["env_steps"] if reached else None,
        "updates": last["updates"] if reached else None,
        "return_at_end": last.get("episode_return_mean"),
        "wall_s": last["wall_s"],
        "noise_scale": noise.scale,
        "noise_scale_second_half": later.scale,
        "diversity": statistics.fmean(row["noise/diversity"] for row in rows),
        "grad_norm": statistics.fmean(row["grad_norm"] for row in rows),
        "step_norm": statistics.fmean(row["step_norm"] for row in rows),
        "layers": {
            name.removeprefix("layer/").removesuffix("/distance"): value
            for name, value in last.items()
            if name.startswith("layer/") and name.endswith("/distance")
        },
        "distance": float(np.linalg.norm([v for k, v in last.items() if k.endswith("/distance")])),
    }


class Fit(NamedTuple):
    """S(B) = steps_min (1 + critical / B), and E(B) = samples_min (1 + B / critical)."""

    steps_min: float
    samples_min: float
    critical: float
    """rows of a gradient step that cost twice the fewest steps and twice the fewest samples"""
    error: float
    """mean absolute difference of log S"""


def fit_hyperbola(rows: Sequence[float], steps: Sequence[float]) -> Fit | None:
    """The curve through steps to the threshold at several batch sizes, least squares in log S; None below three.

    Check: points on a hyperbola give its constants back.
    """
    if len(rows) < 3:
        return None
    sizes, logs = np.asarray(rows, float), np.log(np.asarray(steps, float))
    candidates = np.geomspace(sizes.min() / 100, sizes.max() * 100, 2000)
    shapes = np.log1p(candidates[:, None] / sizes)
    level = np.mean(logs - shapes, axis=1, keepdims=True)
    errors = np.mean(np.square(logs - shapes - level), axis=1)
    best = int(np.argmin(errors))
    steps_min, critical = float(np.exp(level[best, 0])), float(candidates[best])
    gap = float(np.mean(np.abs(logs - shapes[best] - level[best])))
    return Fit(steps_min, steps_min * critical, critical, gap)


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each arm over its seeds; steps and samples only where most of them reached the threshold."""
    rows = []
    key = ("algorithm", "optimiser", "batch_rule", "envs")
    for values, group in itertools.groupby(
        sorted(runs, key=lambda r: [r[k] for k in key]), lambda r: [r[k] for k in key]
    ):
        mine = list(group)
        got = [run for run in mine if run["reached"]]
        most = len(got) * 2 > len(mine)
        middle = {
            name: statistics.median(run[name] for run in (got if most else mine))
            for name in ("noise_scale", "noise_scale_second_half", "diversity", "step_norm", "grad_norm", "distance")
        }
        rows.append({
            **dict(zip(key, values, strict=True)),
            "rows": mine[0]["rows"],
            "reached": len(got),
            "seeds": len(mine),
            "env_steps": statistics.median(run["env_steps"] for run in got) if most else None,
            "updates": statistics.median(run["updates"] for run in got) if most else None,
            **middle,
        })  # fmt: skip
    return rows


def critical_batches(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each algorithm and update rule the fit through the best learning-rate rule at each size, and the noise."""
    found = []
    for algorithm, optimiser in dict.fromkeys((row["algorithm"], row["optimiser"]) for row in rows):
        mine = [r for r in rows if (r["algorithm"], r["optimiser"]) == (algorithm, optimiser) and r["updates"]]
        best = {size: min((r for r in mine if r["rows"] == size), key=lambda r: r["updates"])
                for size in sorted({r["rows"] for r in mine})}  # fmt: skip
        fit = fit_hyperbola(list(best), [row["updates"] for row in best.values()])
        found.append({
            "algorithm": algorithm,
            "optimiser": optimiser,
            "fit": fit and fit._asdict(),
            "noise_scale_median": statistics.median(r["noise_scale"] for r in best.values()) if best else None,
            "noise_scale_second_half_median": (
                statistics.median(r["noise_scale_second_half"] for r in best.values()) if best else None
            ),
            "best_batch_rule": {size: row["batch_rule"] for size, row in best.items()},
        })  # fmt: skip
    return found


def kept_runs(path: Path) -> list[dict[str, Any]]:
    """Runs of an earlier start that was cut off."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_all(wanted: Sequence[tuple[Any, int]], take: Callable[[Any, int], dict[str, Any]], path: Path) -> list:
    """`take` what is not there yet of (arm, seed), keeping each run as a line."""
    runs = kept_runs(path)
    have = {(*(run[name] for name in arm._fields), run["seed"]) for arm, _ in wanted[:1] for run in runs}
    for arm, seed in wanted:
        if (*arm, seed) in have:
            continue
        run = take(arm, seed)
        runs.append(run)
        with path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        told = f"{run['updates']} steps, {run['env_steps']} samples" if run["reached"] else f"{run['return_at_end']}"
        print(f"{' '.join(map(str, arm))} seed {seed}: {told}", flush=True)
    return runs


def tune(algorithms: Sequence[str], optimisers: Sequence[str], most_steps: int) -> None:
    """Which learning rate at 256 rows reaches the threshold first? Prints one line for each."""
    for algorithm, optimiser in itertools.product(algorithms, optimisers):
        for factor in FACTORS:
            arm = Arm(algorithm, optimiser, "constant", 256 // ROWS_PER_ENV, RATES[algorithm, optimiser] * factor)
            runs = [train(arm, seed, most_steps) for seed in TUNING_SEEDS]
            ends = [(run.stop_reason, run.metrics[-1]) for run in runs]
            words = ", ".join(
                str(row["env_steps"]) if reason else f"not ({row['episode_return_mean']:.0f})" for reason, row in ends
            )
            print(f"{algorithm} {optimiser} {arm.learning_rate:g}: samples {words}", flush=True)


def main() -> None:
    """Tune, or run the study, fit, draw."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--tune", action="store_true", help="search learning rates for 256 rows instead")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--optimisers", nargs="+", default=list(UPDATE_RULES), choices=UPDATE_RULES)
    parser.add_argument("--envs", nargs="+", type=int, default=list(ENVS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    given = parser.parse_args()
    most_steps = 20_000 if given.quick else MOST_STEPS
    if given.tune:
        tune(given.algorithms, given.optimisers, min(most_steps, TUNING_STEPS))
        return
    began = record.conditions()
    record.QUICK_RESULTS.mkdir(parents=True, exist_ok=True)
    lines = record.QUICK_RESULTS / ("scaling_quick.jsonl" if given.quick else "scaling_runs.jsonl")
    if given.quick:
        lines.unlink(missing_ok=True)
        chosen = [(arm, 300) for arm in arms(["a2c"], ["adam"], [4, 8])]
    else:
        chosen = list(itertools.product(arms(given.algorithms, given.optimisers, given.envs), given.seeds))
    runs = run_all(chosen, partial(measure, most_steps=most_steps), lines)
    rows = summarise(runs)
    critical = critical_batches(rows)
    head = ["", "envs", "rows", "reached", "samples", "steps", "step norm", "distance", "noise scale"]
    shown = [
        [f"{r['algorithm']} {r['optimiser']} {r['batch_rule']}", r["envs"], r["rows"], f"{r['reached']}/{r['seeds']}",
         r["env_steps"], r["updates"], r["step_norm"], r["distance"], r["noise_scale"]]
        for r in rows
    ]  # fmt: skip
    print("\n" + record.table(shown, head))
    fits = [
        [f"{c['algorithm']} {c['optimiser']}", c["fit"] and c["fit"]["critical"], c["fit"] and c["fit"]["error"],
         c["noise_scale_median"], c["noise_scale_second_half_median"]]
        for c in critical
    ]  # fmt: skip
    print("\n" + record.table(fits, ["", "critical batch", "error of log S", "noise scale", "in the second half"]))
    settings = {"env": ENV, "threshold": THRESHOLD, "most_steps": most_steps, "learners": LEARNERS}
    path = record.write(
        "scaling", MODULE, quick=given.quick, began=began, settings=settings, summary=rows, critical=critical, runs=runs
    )
    plot(rows, critical, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
