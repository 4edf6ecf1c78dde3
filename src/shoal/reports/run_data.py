# SPDX-License-Identifier: Apache-2.0
"""A run folder read back, with the figures that tables and pages show."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.errors import ConfigError
from shoal.records.flow import merged_rows, merged_seconds, read_flow
from shoal.records.metrics import read_rows
from shoal.records.run_dir import RunDir

Row = dict[str, Any]
Seconds = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RunData:
    """One run, as far as it got: a run that was killed has rows but may lack the rest."""

    path: Path
    facts: dict[str, Any]
    """config.json"""
    hardware: dict[str, Any]
    rows: list[Row]
    """metrics, oldest first"""
    ledger: list[Row]
    """what crossed, over all starts of the run"""
    phases: Seconds
    waits: Seconds

    @property
    def architecture(self) -> str:
        return str(self.facts["architecture"])

    @property
    def final_return(self) -> float | None:
        """episode_return_mean of the last row that has one."""
        return last(self.rows, "episode_return_mean")

    @property
    def env_steps(self) -> int:
        return int(last(self.rows, "env_steps") or 0)

    @property
    def wall_s(self) -> float:
        return float(last(self.rows, "wall_s") or 0.0)

    @property
    def env_steps_per_s(self) -> float | None:
        """From the first row to the last: start-up and compilation come before the first."""
        timed = [row for row in self.rows if row.get("wall_s") is not None and row.get("env_steps") is not None]
        if len(timed) < 2 or timed[-1]["wall_s"] <= timed[0]["wall_s"]:
            return self.env_steps / self.wall_s if self.wall_s > 0 else None
        return (timed[-1]["env_steps"] - timed[0]["env_steps"]) / (timed[-1]["wall_s"] - timed[0]["wall_s"])

    def first_reaching(self, threshold: float) -> Row | None:
        """The first row whose mean return is at least the threshold."""
        reached = (r for r in self.rows if r.get("episode_return_mean") is not None)
        return next((r for r in reached if r["episode_return_mean"] >= threshold), None)


@dataclass(frozen=True)
class Wait:
    """Who waited most: a role, the wire it waited for, and that wait's share of the role's time."""

    role: str
    wire: str
    share: float


def read_run(path: Path) -> RunData:
    """Read a run folder.

    Raises:
      ConfigError: it is none, or a file in it is damaged.
    """
    run = RunDir.open(path)
    flow = read_flow(run.flow_path) if run.flow_path.exists() else {"segments": []}
    return RunData(
        path=run.path,
        facts=run.read_config(),
        hardware=_read_hardware(run.hardware_path),
        rows=read_rows(run.metrics_path) if run.metrics_path.exists() else [],
        ledger=merged_rows(flow),
        phases=merged_seconds(flow, "phases"),
        waits=merged_seconds(flow, "waits"),
    )


def labels(runs: list[RunData]) -> list[str]:
    """A short name for each run: no more than is needed to tell them apart.

    Check: no two are the same.
    """
    architectures = [run.architecture for run in runs]
    with_env = [f"{run.architecture} {run.facts['env']}" for run in runs]
    with_seed = [f"{run.architecture} seed {run.facts['seed']}" for run in runs]
    with_both = [f"{name} seed {run.facts['seed']}" for name, run in zip(with_env, runs, strict=True)]
    for names in (architectures, with_env, with_seed, with_both, [run.path.name for run in runs]):
        if len(set(names)) == len(names):
            return names
    return [f"{number} {run.path.name}" for number, run in enumerate(runs, start=1)]


def last(rows: list[Row], name: str) -> Any:
    """The newest value of a metric; None where no row has it."""
    return next((row[name] for row in reversed(rows) if row.get(name) is not None), None)


def speed_course(rows: list[Row]) -> list[tuple[float, float]]:
    """(env_steps, env_steps per second) along a run, each over about a twentieth of its rows on either side.

    Rows a few milliseconds apart have wild speeds of their own, and a mean of speeds is not the speed.

    Check: rows at an even pace all give that pace.
    """
    timed = [(row["env_steps"], row["wall_s"]) for row in rows if "env_steps" in row and "wall_s" in row]
    reach = max(len(timed) // 20, 1)
    course = []
    for i, (steps, _) in enumerate(timed):
        first, final = timed[max(i - reach, 0)], timed[min(i + reach, len(timed) - 1)]
        if final[1] > first[1]:
            course.append((steps, (final[0] - first[0]) / (final[1] - first[1])))
    return course


def common_threshold(runs: list[RunData]) -> float | None:
    """The highest mean return that every run reached; None where one has none.

    Check: `first_reaching` finds a row in every run.
    """
    tops = [
        max((r["episode_return_mean"] for r in run.rows if r.get("episode_return_mean") is not None), default=None)
        for run in runs
    ]
    known = [top for top in tops if top is not None]
    return min(known) if known and len(known) == len(runs) else None


def longest_wait(run: RunData) -> Wait | None:
    """The wait with the largest share of its role's time; None where nobody waited."""
    found = [
        Wait(role, wire, seconds / total)
        for role, wires in run.waits.items()
        for wire, seconds in wires.items()
        if (total := role_seconds(run, role)) > 0 and seconds > 0
    ]
    return max(found, key=lambda wait: wait.share, default=None)


def role_seconds(run: RunData, role: str) -> float:
    """Seconds of work and waiting that a role's workers account for."""
    return sum(run.phases.get(role, {}).values()) + sum(run.waits.get(role, {}).values())


def lags(run: RunData) -> tuple[float | None, float | None]:
    """Mean and largest policy lag of the data that learners read, in versions: of the ledger, else of the rows."""
    data = [r for r in run.ledger if r["message"] in ("TRAJ", "TRANS", "BATCH") and r.get("lag_mean") is not None]
    if not data:
        means = [row["policy_lag_mean"] for row in run.rows if row.get("policy_lag_mean") is not None]
        maxima = [row["policy_lag_max"] for row in run.rows if row.get("policy_lag_max") is not None]
        return (sum(means) / len(means) if means else None, max(maxima, default=None))
    count = sum(row["count"] for row in data)
    mean = sum(row["lag_mean"] * row["count"] for row in data) / count if count else None
    return mean, max((row["lag_max"] for row in data if row.get("lag_max") is not None), default=None)


def _read_hardware(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as fault:
        raise ConfigError(f"{path} cannot be read ({fault}); delete it to report without the machine") from None
    return facts if isinstance(facts, dict) else {}
