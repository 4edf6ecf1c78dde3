# SPDX-License-Identifier: Apache-2.0
"""IMPALA on `ale:pong` on threads: steps a second beside what environment, forward pass and update reach alone.

Each part alone has the whole machine; in training they share it. With everything on the same cores the least time a
step can take is the sum of the parts' processor seconds over the cores, so that sum is measured, too: `share of the
processor limit` is how much of the machine ends up in environment, acting and learning at their own cost.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import shoal
from benchmarks import alone, record
from shoal.architectures import presets
from shoal.envs import ale_env, resolve
from shoal.records import checkpoint, hardware
from shoal.records.flow import merged_rows, read_flow

MODULE = "benchmarks.throughput.pong"
ENV = "ale:pong"
WARM_UP_SHARE = 0.2
"""of the run that no rate counts: compiling, filling the queue, first episodes"""
PONG = (-21.0, 21.0)


def part(call: dict[str, Any], steps: int) -> dict[str, float]:
    """Steps a second of one part alone, and its processor seconds per step, from the cost of a call."""
    return {
        "seconds_per_call": call["median"],
        "steps_per_s": steps / call["median"],
        "cores_busy": call["cpu_s"] / call["median"],
        "cpu_seconds_per_step": call["cpu_s"] / steps,
    }


def parts_alone(config: Any, seconds: float) -> dict[str, dict[str, float]]:
    """Environment, forward pass and update alone, at the sizes that training uses."""
    parts = alone.parts_of("impala", config, ENV)
    n, batch = config.envs_per_actor, config.batch_trajectories
    steps = batch * n * config.unroll_length
    return {
        f"environment x{n}": part(alone.env_alone(parts, n, seconds), n),
        f"environment x{config.num_envs}": part(alone.env_alone(parts, config.num_envs, seconds), config.num_envs),
        f"forward pass, batch {n}": part(alone.act_alone(parts, n, seconds), n),
        f"update, batch {steps}": part(alone.update_alone(parts, config, batch, seconds), steps),
    }


def train(env_steps: int, seed: int) -> dict[str, Any]:
    """One training run; rates after its warm-up, lag from the ledger, every return that its last checkpoint holds."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        result = shoal.train(
            "impala", ENV, engine="threads", env_steps=env_steps, seed=seed, run_dir=run_dir, quiet=True
        )
        flow = merged_rows(read_flow(run_dir / "flow.json"))
        episodes = checkpoint.load_latest(run_dir / "checkpoints").meta["episodes"]
    rows = result.metrics
    first = next((row for row in rows[:-1] if row["env_steps"] >= WARM_UP_SHARE * env_steps), rows[0])
    last = rows[-1]
    returns = [episode_return for episode_return, _ in episodes["recent"]]
    trajectories = next(row for row in flow if row["message"] == "TRAJ")
    phases = {name: sum(row[name] for row in rows if name in row) for name in last if name.startswith("phase_s/")}
    return {
        "seed": seed,
        "steps_per_s": (last["env_steps"] - first["env_steps"]) / (last["wall_s"] - first["wall_s"]),
        "env_steps": last["env_steps"],
        "wall_s": last["wall_s"],
        "to_first_row_s": rows[0]["wall_s"],
        "lag_mean": trajectories["lag_mean"],
        "lag_max": trajectories["lag_max"],
        "lag_bound": result.config.max_lag,
        "episodes": last["episodes"],
        "returns": returns,
        "returns_are_pongs": all(PONG[0] <= r <= PONG[1] and r == round(r) for r in returns) if returns else None,
        "phase_s": phases,
        "messages": flow,
    }


def limits(alone_s: dict[str, dict[str, float]], cores: float) -> dict[str, float]:
    """Steps a second if the parts' processor time were all there is, and if only the slowest part counted."""
    names = list(alone_s)
    spent = sum(alone_s[name]["cpu_seconds_per_step"] for name in (names[0], names[2], names[3]))
    return {
        "processor_limit_steps_per_s": cores / spent,
        "slowest_part_steps_per_s": min(found["steps_per_s"] for found in alone_s.values()),
    }


def main() -> None:
    """Parts, training, parts, training ...; the table."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--env-steps", type=int, default=None, help="per run; default 30,000")
    parser.add_argument("--repeats", type=int, default=None, help="default 3")
    given = parser.parse_args()
    env_steps = given.env_steps or (1_500 if given.quick else 30_000)
    repeats = given.repeats or (1 if given.quick else 3)
    config, cores = presets.preset("impala", resolve(ENV).spec), hardware.usable_cores()
    began = record.conditions()
    runs = []
    for repeat in range(repeats):
        parts = parts_alone(config, 0.5 if given.quick else 6.0)
        run = train(env_steps, repeat)
        bounds = limits(parts, cores)
        share = run["steps_per_s"] / bounds["processor_limit_steps_per_s"]
        runs.append({"repeat": repeat, "parts_alone": parts, **bounds, "share_of_processor_limit": share, **run})
        lag = f"lag {run['lag_mean']:.2f} mean {run['lag_max']} max"
        print(f"{repeat + 1}/{repeats}: {run['steps_per_s']:,.0f} steps/s, {lag}, {share:.0%} of the limit", flush=True)
    rows = []
    for name in runs[0]["parts_alone"]:
        rate, busy = (
            statistics.median(r["parts_alone"][name][what] for r in runs) for what in ("steps_per_s", "cores_busy")
        )
        rows.append([f"{name} alone", rate, f"{busy:.2f}"])
    for what, name in (
        ("processor_limit_steps_per_s", f"sum of the parts' processor time on {cores:g} cores"),
        ("steps_per_s", "IMPALA, threads"),
    ):
        rows.append([name, statistics.median(r[what] for r in runs), None])
    print("\n" + record.table(rows, ["", "steps/s", "cores busy"]))
    returns = [each for run in runs for each in run["returns"]]
    if returns:
        inside = all(run["returns_are_pongs"] is not False for run in runs)
        print(f"returns: {min(returns):g} .. {max(returns):g} in {len(returns)} episodes; Pong's: {inside}")
    summary = {
        what: record.summarise([run[what] for run in runs])
        for what in ("steps_per_s", "share_of_processor_limit", "processor_limit_steps_per_s", "lag_mean", "lag_max")
    }
    settings = {"config": config, "env": ENV, "env_settings": ale_env.SETTINGS}
    record.write("pong_impala", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs)


if __name__ == "__main__":
    main()
