# SPDX-License-Identifier: Apache-2.0
"""What happens after each update: count, write a row, save a checkpoint, decide to stop."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal.engines.base import Engine
from shoal.learners.base import LearnerState
from shoal.records import checkpoint
from shoal.records.episodes import EpisodeStats
from shoal.records.flow import FlowRecord
from shoal.records.live import Console
from shoal.records.metrics import MetricsWriter
from shoal.records.run_dir import RunDir
from shoal.records.tensorboard import EventWriter
from shoal.training.states import pack
from shoal.types import Trajectory

ROWS_PER_RUN = 200
LEAST_SECONDS_PER_ROW, MOST_SECONDS_PER_ROW = 0.05, 10.0
SECONDS_PER_VIEW = 0.25
LEARNT_FROM = ("TRAJ", "BATCH")
"""what learners take from a queue: the one or the other"""
SECONDS_PER_CHECKPOINT = 60.0
SECONDS_PER_BEST = 5.0
"""a new best is saved earlier, but while returns rise with every update, not with every one of them: saving takes
milliseconds, and syncing to a slow disk tens of them"""


@dataclass(frozen=True)
class StopWhen:
    """When to stop before env_steps are reached."""

    episode_return: float | None = None
    """mean raw return of the last 100 finished episodes"""
    minutes: float | None = None
    """of training, resumes included"""


@dataclass
class Progress:
    """Counters that go on over a resume."""

    env_steps_generated: int = 0
    wall_s: float = 0.0


class Recorder:
    """The `visit` of a training run, and the owner of what is written to its folder."""

    def __init__(self, run: RunDir, config: Any, console: Console, stop: StopWhen, *, architecture: str, order: str):
        self.run, self.config, self.console, self.stop = run, config, console, stop
        self.architecture, self.order = architecture, order
        self.metrics = MetricsWriter(run.metrics_path)
        self.events: EventWriter | None = None
        """where rows are also written for TensorBoard"""
        self.episodes = EpisodeStats()
        self.progress = Progress()
        self.state: Any = None
        """the latest LearnerState; None before the first segment"""
        self.saved_env_steps = -1
        self.stop_reason: str | None = None
        self._best = checkpoint.best_score(run.checkpoints_path)
        self.first_update_s: float | None = None
        self._generated: list[int] = []
        self._restarted: list[str] = []
        self._learnt: list[dict[str, Any]] = []
        self._batches: list[list[int]] = []
        self._batch_sizes: Counter[int] = Counter()
        self._sums: dict[str, list[float]] = {}
        self._lags: list[np.ndarray] = []
        self._row_steps, self._row_s, self._view_s, self._saved_s = 0, 0.0, 0.0, 0.0
        self._seconds: dict[str, float] = {}
        self._fills: dict[str, tuple[float, int]] = {}
        self._losses = self._env_losses = 0
        self._lost: dict[str, int] = {}

    def attach(self, engine: Engine, flow: FlowRecord, state: LearnerState, until: int) -> None:
        """Begin a segment on a fresh engine, from `state`, which ends when `until` env_steps were received."""
        self.engine, self.flow, self.state, self.until = engine, flow, state, until
        self._wall_base = self.progress.wall_s
        self._row_steps, self._row_s, self._view_s, self._saved_s = state.env_steps, 0.0, 0.0, 0.0
        self._losses = self._env_losses = 0
        self._lost = {}
        self._seconds, self._fills = {}, {}
        engine.on_note = self._note

    def restore(self, meta: dict[str, Any]) -> None:
        """Take counters and the episode window from a checkpoint."""
        self.episodes = EpisodeStats.from_dict(meta["episodes"])
        self.progress = Progress(**meta["progress"])

    def visit(self, state: LearnerState, batch: list[Trajectory], metrics: dict[str, float]) -> LearnerState:
        """Called by the architecture after every update; returns the state unchanged.

        Where workers learn, no trajectory comes here: what they noted (`actors.notes.note_learnt`) counts instead.
        """
        for trajectory in batch:
            self.episodes.add(trajectory.episode_return, trajectory.episode_length)
            self._lags.append(state.version - 1 - trajectory.version)
        self._add(metrics)
        while self._learnt:  # taken one by one: workers go on appending
            told = self._learnt.pop(0)
            returns, lengths = np.asarray(told["episodes"], np.float64).reshape(-1, 2).T
            self.episodes.add(returns, lengths.astype(int))
            self._lags.append(np.asarray(told["lag"]).ravel())
            self._add(told["metrics"])
        self.state = state
        self._after_update(self.engine.now())
        return state

    def _add(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._sums.setdefault(name, []).append(value)

    def _after_update(self, now: float) -> None:
        steps = self.state.env_steps
        if self.first_update_s is None:
            self.first_update_s = now
        if self._row_is_due(steps - self._row_steps, now - self._row_s):
            self.write_row()
        elif now - self._view_s >= SECONDS_PER_VIEW:
            self._view_s = now
            self._show(self._row(now))
        if now - self._saved_s >= (SECONDS_PER_BEST if self._is_best() else SECONDS_PER_CHECKPOINT):
            self.save()
        self.stop_reason = self._stop_reason(now)
        if self.stop_reason or self.until <= steps < self.config.env_steps:
            self.engine.stop(self.stop_reason or "end of segment")

    def _is_best(self) -> bool:
        """Whether the mean return of the last 100 episodes is higher than that of any checkpoint."""
        mean = self.episodes.return_mean
        return self.episodes.is_full and mean is not None and (self._best is None or mean > self._best)

    def _row_is_due(self, steps: int, seconds: float) -> bool:
        """By steps, so that runs in fixed order have the same rows; in free order neither too often nor too seldom."""
        by_steps = steps >= self.config.env_steps / ROWS_PER_RUN
        if self.order == "fixed":
            return by_steps
        return seconds >= MOST_SECONDS_PER_ROW or (by_steps and seconds >= LEAST_SECONDS_PER_ROW)

    def _stop_reason(self, now: float) -> str | None:
        wanted, mean = self.stop.episode_return, self.episodes.return_mean
        if wanted is not None and mean is not None and self.episodes.is_full and mean >= wanted:
            return f"mean return {mean:.1f} reached {wanted:g}"
        if self.stop.minutes is not None and self._wall_base + now >= 60 * self.stop.minutes:
            return f"{self.stop.minutes:g} minutes are over"
        return None

    def write_row(self) -> None:
        """Append a row of metrics since the one before, and show it."""
        now = self.engine.now()
        row = self._row(now)
        self.metrics.write(row)
        if self.events is not None:
            self.events.write(row)
        self._show(row)
        self._sums, self._lags, self._batch_sizes = {}, [], Counter()
        self._row_steps, self._row_s, self._view_s = self.state.env_steps, now, now
        self._seconds, self._fills = self._totals(), self.engine.fill()

    def _show(self, row: dict[str, Any]) -> None:
        self.console.show(row, self.engine.phases(), self.engine.waits())

    def save(self) -> None:
        """Save a checkpoint of the latest state, with the flow so far."""
        if self.state is None or self.state.env_steps == self.saved_env_steps:
            return
        self._count_generated()
        self.progress.wall_s = self._wall_base + self.engine.now()
        meta = {
            "architecture": self.architecture,
            "level": self._level(),
            "env_steps": self.state.env_steps,
            "updates": self.state.updates,
            "version": self.state.version,
            "episodes": self.episodes.to_dict(),
            "progress": vars(self.progress),
        }
        checkpoint.save(
            self.run.checkpoints_path,
            self.state.env_steps,
            pack(self.state),
            meta,
            self.episodes.return_mean if self.episodes.is_full else None,
        )
        self.flow.write(
            self.engine.rows(), self.engine.phases(), self.engine.waits(), self.state.env_steps, self.engine.pids
        )
        self.saved_env_steps = self.state.env_steps
        self._saved_s = self.engine.now()
        if self._is_best():
            self._best = self.episodes.return_mean

    def finish(self, *, save: bool = True) -> None:
        """Write what the last row, the log and, if it is to be saved, the checkpoint do not hold yet."""
        self._log_losses()
        self._log_restarts()
        if self.state is not None and self._row_steps < self.state.env_steps:
            self.write_row()
        if save:
            self.save()

    def close(self) -> None:
        """Give the terminal and the metrics file back."""
        self.console.close()
        self.metrics.close()
        if self.events is not None:
            self.events.close()

    def _level(self) -> str:
        """How faithfully a resume goes on: environments start anew, which an uninterrupted run does at segment ends."""
        return "exact" if self.order == "fixed" and self.state.env_steps >= self.until else "statistical"

    def _note(self, **metrics: Any) -> None:
        self._generated.append(metrics.get("env_steps_generated", 0))  # an append is safe from many threads
        if "env_worker_restarted" in metrics:
            self._restarted.append(metrics["env_worker_restarted"])
        if "learnt" in metrics:
            self._learnt.append(metrics["learnt"])
        if "inference_batches" in metrics:
            self._batches.append(metrics["inference_batches"])

    def _count_generated(self) -> int:
        while self._generated:  # taken one by one: actors go on appending
            self.progress.env_steps_generated += self._generated.pop()
        return self.progress.env_steps_generated

    def _row(self, now: float) -> dict[str, Any]:
        elapsed = max(now - self._row_s, 1e-9)
        row = {
            "env_steps": self.state.env_steps,
            "env_steps_generated": max(self._count_generated(), self.state.env_steps),
            "wall_s": self._wall_base + now,
            "updates": self.state.updates,
            "version": self.state.version,
            **self.episodes.metrics(),
            "env_steps_per_s": (self.state.env_steps - self._row_steps) / elapsed,
            **{name: float(np.mean(values)) for name, values in self._sums.items()},
        }
        if row.get("noise/signal", 0.0) > 0:
            row["noise/scale"] = row["noise/trace"] / row["noise/signal"]
        if any(lags.size for lags in self._lags):  # who only collects for a memory notes episodes without lag
            lags = np.concatenate(self._lags)
            row |= {"policy_lag_mean": float(lags.mean()), "policy_lag_max": int(lags.max())}
        row |= self._inference_batches()
        for message, (found, looks) in self.engine.fill().items():
            found_before, looks_before = self._fills.get(message, (0.0, 0))
            if message in LEARNT_FROM and looks > looks_before:
                row["queue_fill_frac"] = (found - found_before) / (looks - looks_before)
        losses = self._log_losses()
        if losses:
            row["workers_restarted"] = losses
        if self._log_restarts():
            row["env_workers_restarted"] = self._env_losses
        dropped = self.engine.drops().get("TRAJ", 0)
        if dropped:
            row["trajectories_dropped"] = dropped
        totals = self._totals()
        return row | {name: value - self._seconds.get(name, 0.0) for name, value in totals.items()}

    def _inference_batches(self) -> dict[str, float]:
        """Requests that were answered together since the row before: their mean, and how often each number came."""
        while self._batches:  # taken one by one: the inference worker goes on appending
            self._batch_sizes.update(self._batches.pop())
        sizes = self._batch_sizes
        if not sizes:
            return {}
        mean = sum(size * count for size, count in sizes.items()) / sizes.total()
        return {"inference_batch_mean": mean} | {f"inference_batch/{size}": sizes[size] for size in sorted(sizes)}

    def _log_losses(self) -> int:
        """Log workers that were started anew or dropped since the last look; how many there were in this segment."""
        losses = self.engine.losses()
        for line in losses[self._losses :]:
            self.run.log(line)
        self._losses = len(losses)
        lost = self.engine.lost_messages()
        if lost != self._lost:
            counts = ", ".join(f"{count} {message}" for message, count in lost.items())
            self.run.log(f"messages lost with the nodes that they lay on, so far: {counts}")
            self._lost = lost
        return self._losses

    def _log_restarts(self) -> int:
        """Log environment workers that were started anew since the last look; how many in this segment."""
        while self._restarted:  # taken one by one: actors go on appending
            self.run.log(self._restarted.pop(0))
            self._env_losses += 1
        return self._env_losses

    def _totals(self) -> dict[str, float]:
        """phase_s/<phase> over all roles and wait_s/<role>/<wire>, in seconds since the engine began."""
        totals: dict[str, float] = {}
        for phases in self.engine.phases().values():
            for name, seconds in phases.items():
                totals[f"phase_s/{name}"] = totals.get(f"phase_s/{name}", 0.0) + seconds
        for role, waits in self.engine.waits().items():
            for wire, seconds in waits.items():
                totals[f"wait_s/{role}/{wire}"] = seconds
        return totals
