# SPDX-License-Identifier: Apache-2.0
"""metrics.jsonl: one row of numbers per line, and what each name means."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from shoal.errors import ConfigError
from shoal.records.files import append_whole, plain, replace_file, unwritable


class Metric(NamedTuple):
    """A name of the rows; `<...>` in it stands for any text."""

    name: str
    unit: str
    meaning: str


METRICS = (
    Metric("env_steps", "steps", "agent steps (no frame skip, no reset rows) received by the learner or replay"),
    Metric("env_steps_generated", "steps", "agent steps taken by actors, received or not"),
    Metric("wall_s", "s", "seconds of training so far, over all resumes"),
    Metric("updates", "updates", "optimiser steps so far"),
    Metric("version", "publishes", "params published so far"),
    Metric("episodes", "episodes", "episodes finished so far"),
    Metric("episode_return_mean", "reward", "mean undiscounted raw return of the last 100 finished episodes"),
    Metric("episode_length_mean", "steps", "mean agent steps of the last 100 finished episodes"),
    Metric("env_steps_per_s", "steps/s", "env_steps gained since the previous row over the seconds between"),
    Metric("policy_lag_mean", "publishes", "learner's version at first read minus the data's, mean since the last row"),
    Metric("policy_lag_max", "publishes", "largest policy lag since the previous row"),
    Metric("sample_reuse", "uses/step", "times each received step is used in an update"),
    Metric("replay_ratio", "uses/step", "rows drawn from the replay for each that it got once learning began"),
    Metric("replay_fill_frac", "0-1", "filled share of the replay"),
    Metric("replay_age_mean", "publishes", "learner's version minus that of the params that acted, over rows drawn"),
    Metric("gradients_rejected", "gradients", "thrown away by the parameter server because they were too old, so far"),
    Metric("outliers_dropped", "gradients", "not pushed because their loss was far from a learner's usual, so far"),
    Metric("workers_restarted", "workers", "whose process died and was started anew, since the run's last start"),
    Metric("env_workers_restarted", "workers", "environment workers whose process died, since the run's last start"),
    Metric("trajectories_dropped", "trajectories", "thrown away because they were too old, since the run's last start"),
    Metric("queue_fill_frac", "0-1", "mean filled share of the queue that the learner reads, seen at its reads"),
    Metric("inference_batch_mean", "requests", "actors' requests answered together, mean since the previous row"),
    Metric("inference_batch/<requests>", "batches", "so many batches held so many requests since the previous row"),
    Metric("grad_norm", "1", "Euclidean norm of the gradient before clipping"),
    Metric("step_norm", "1", "Euclidean norm of the change of the params in one update"),
    Metric("learning_rate", "1", "learning rate of the latest update"),
    Metric("phase_s/<phase>", "s", "seconds in this phase, summed over workers, since the previous row"),
    Metric("wait_s/<role>/<wire>", "s", "seconds this role waited for this wire, summed over workers, since then"),
    Metric("loss/<name>", "1", "a term of the loss, or a diagnostic of it such as entropy or clipped share"),
    Metric("layer/<layer>/<norm>", "1", "norm of a layer's gradient, step, params or distance from the start"),
    Metric("noise/trace", "1", "variance of one row's gradient, summed over params: tr(Sigma)"),
    Metric("noise/signal", "1", "squared norm of the true gradient; unbiased, so at times below 0"),
    Metric(
        "noise/scale",
        "rows",
        "noise/trace over noise/signal: rows beyond which larger batches gain little",
    ),
    Metric("noise/diversity", "1", "sum of squared norms of learners' gradients over the squared norm of their sum"),
    Metric("extra/<name>", "any", "whatever a custom learner or architecture adds"),
)

_EXACT = frozenset(metric.name for metric in METRICS if "<" not in metric.name)
_PREFIXES = tuple(metric.name.partition("<")[0] for metric in METRICS if "<" in metric.name)


def unknown_names(row: dict[str, Any]) -> list[str]:
    """Names of the row that METRICS does not list.

    Check: empty for a row made of listed names.
    """
    return [name for name in row if name not in _EXACT and not (name.startswith(_PREFIXES) and name[-1] != "/")]


class MetricsWriter:
    """Appends rows. Each goes out whole and at once, so a killed run leaves at most one torn last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._cut_torn_line()
        except OSError as fault:
            raise unwritable(path, fault) from None

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; numbers that are not finite become null.

        Raises:
          CheckpointError: the disk is full; the rows before this one are intact.
        """
        append_whole(self._fd, self.path, (json.dumps(plain(row)) + "\n").encode())

    def truncate_after(self, env_steps: int) -> int:
        """Cut the rows beyond a checkpoint; gives how many went.

        Check: no row that stays has more env_steps, and none that goes has fewer.
        """
        rows = read_rows(self.path)
        kept = [row for row in rows if (row.get("env_steps") or 0) <= env_steps]
        if len(kept) < len(rows):
            replace_file(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())
            os.close(self._fd)
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
        return len(rows) - len(kept)

    def close(self) -> None:
        """Make the rows last a power cut, and let the file go."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _cut_torn_line(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._fd, whole)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows in order. A torn last line, which a killed run leaves, is passed over.

    Raises:
      ConfigError: the file is missing, or a line before the last is not a row.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as fault:
        raise ConfigError(f"{path} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    with contextlib.suppress(ConfigError):
        rows.append(_row(path, len(lines) + 1, last))
    return rows


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ConfigError(f"{path} line {number} is not a row of metrics; delete that line")
    return row
