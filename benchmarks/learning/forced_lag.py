# SPDX-License-Identifier: Apache-2.0
"""What V-trace is for: IMPALA on CartPole with actors held back 0, 5 and 20 versions, corrected or with ratios at 1.

On the inline engine, so that every run repeats bit for bit and lag is what was asked for (plus the one version that
IMPALA's own queue costs). The settings are the paper's optimiser (RMSProp) at a learning rate so high that 20 versions
are another policy; they were chosen on seeds 0-2 and are judged on others. Two things that were tried tell the limits:
at the preset's learning rate (Adam, 2e-3, falling) 20 versions differ too little for either form to lose anything, and
at Adam rates high enough to differ, its momentum makes corrected runs unstable as well: V-trace corrects what data is
worth, not what delay does to an optimiser.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import shoal
from benchmarks import record

MODULE = "benchmarks.learning.forced_lag"
LAGS = (0, 5, 20)
CORRECTIONS = ("vtrace", "none")
SEEDS = (200, 201, 202, 203, 204)
SETTINGS = {
    "num_actors": 1,
    "envs_per_actor": 16,
    "unroll_length": 20,
    "batch_trajectories": 1,
    "queue_slots": 1,
    "optimiser": "rmsprop",
    "learning_rate": 3e-3,
    "entropy_cost": 0.02,
    "reward_scale": 0.1,
}
CURVE_POINTS = 60


def train(lag: int, correction: str, seed: int, env_steps: int) -> dict[str, Any]:
    """One run; its curve on a common grid of env_steps, so that seeds can be averaged."""
    with tempfile.TemporaryDirectory() as folder:
        result = shoal.train(
            "impala",
            "CartPole-v1",
            engine="inline",
            env_steps=env_steps,
            seed=seed,
            run_dir=Path(folder) / "run",
            quiet=True,
            forced_lag=lag,
            correction=correction,
            **SETTINGS,
        )
    rows = [row for row in result.metrics if "episode_return_mean" in row]
    steps, returns = zip(*((row["env_steps"], row["episode_return_mean"]) for row in rows), strict=True)
    grid = np.linspace(0, env_steps, CURVE_POINTS + 1)[1:]
    return {
        "forced_lag": lag,
        "correction": correction,
        "seed": seed,
        "return_at_end": returns[-1],
        "return_over_training": float(np.mean(np.interp(grid, steps, returns))),
        "lag_mean": float(np.mean([row["policy_lag_mean"] for row in rows])),
        "lag_max": max(row["policy_lag_max"] for row in rows),
        "behaviour_kl": float(np.mean([row["loss/behaviour_kl"] for row in rows])),
        "curve": np.interp(grid, steps, returns).round(1).tolist(),
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each lag and correction over its seeds, with the loss against the same correction at lag 0, seed by seed."""
    rows = []
    for correction in CORRECTIONS:
        for lag in LAGS:
            mine = _of(runs, lag, correction)
            fresh = _of(runs, 0, correction)
            row: dict[str, Any] = {"correction": correction, "forced_lag": lag}
            for what in ("return_at_end", "return_over_training"):
                row[what] = record.summarise([run[what] for run in mine])
                row[f"loss_of_{what}"] = record.summarise([a[what] - b[what] for a, b in zip(fresh, mine, strict=True)])
            for what in ("lag_mean", "behaviour_kl"):
                row[what] = float(np.mean([run[what] for run in mine]))
            row["lag_max"] = max(run["lag_max"] for run in mine)
            rows.append(row)
    return rows


def _of(runs: list[dict[str, Any]], lag: int, correction: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["forced_lag"] == lag and run["correction"] == correction]


def plot(runs: list[dict[str, Any]], env_steps: int, path: Path) -> None:
    """Two panels, one line per lag: median of the seeds, the band from worst to best. Skipped without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install 'shoal[plots]'")
        return
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    steps = np.linspace(0, env_steps, CURVE_POINTS + 1)[1:] / 1000
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    titles = {"vtrace": "V-trace", "none": "ratios fixed at 1"}
    for panel, correction in zip(panels, CORRECTIONS, strict=True):
        for lag, colour in zip(LAGS, ("#1b6ca8", "#d98e04", "#b3282d"), strict=True):
            curves = np.array([run["curve"] for run in _of(runs, lag, correction)])
            panel.plot(steps, np.median(curves, 0), color=colour, label=f"{lag} versions behind")
            panel.fill_between(steps, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
        panel.set(title=titles[correction], xlabel="env_steps (thousands)", ylim=(0, 510))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("mean return of the last 100 episodes")
    panels[0].legend(loc="lower right")
    seeds = len({run["seed"] for run in runs})
    figure.suptitle(f"IMPALA, CartPole-v1: median and range of {seeds} seeds")
    figure.savefig(path, dpi=120)
    print(f"plot: {path.relative_to(record.ROOT)}")


def main() -> None:
    """Train all, compare, draw."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--env-steps", type=int, default=None, help="per run; default 200,000")
    given = parser.parse_args()
    env_steps = given.env_steps or (6_000 if given.quick else 200_000)
    began = record.conditions()
    runs = []
    for seed in SEEDS[: 1 if given.quick else None]:
        for correction in CORRECTIONS:
            for lag in LAGS:
                run = train(lag, correction, seed, env_steps)
                runs.append(run)
                words = f"return at end {run['return_at_end']:.0f}, over training {run['return_over_training']:.0f}"
                print(f"seed {seed} {correction:<6} lag {lag:>2}: {words}, measured {run['lag_mean']:.1f}", flush=True)
    rows = summary(runs)
    shown = [
        [f"{row['correction']} {row['forced_lag']} behind", row["lag_mean"], row["behaviour_kl"],
         row["return_over_training"]["median"], row["loss_of_return_over_training"]["median"],
         row["return_at_end"]["median"], row["loss_of_return_at_end"]["median"]]
        for row in rows
    ]  # fmt: skip
    head = ["", "lag", "KL", "return over training", "lost to lag", "return at end", "lost to lag"]
    print("\n" + record.table(shown, head))
    path = record.write(
        "forced_lag",
        MODULE,
        quick=given.quick,
        began=began,
        settings={**SETTINGS, "env_steps": env_steps, "engine": "inline", "env": "CartPole-v1"},
        summary=rows,
        runs=runs,
    )
    plot(runs, env_steps, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
