# SPDX-License-Identifier: Apache-2.0
"""metrics.jsonl: whole rows, torn lines, the cut at a resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shoal.errors import CheckpointError, ConfigError
from shoal.records.metrics import METRICS, MetricsWriter, read_rows, unknown_names


def written(path: Path, *env_steps: int) -> MetricsWriter:
    writer = MetricsWriter(path)
    for steps in env_steps:
        writer.write({"env_steps": steps, "wall_s": steps / 10})
    return writer


def test_rows_come_back_and_each_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = written(path, 1, 2)
    assert [row["env_steps"] for row in read_rows(path)] == [1, 2]
    writer.write({"env_steps": np.int64(3), "grad_norm": np.float32(0.5), "loss/policy": float("nan")})
    assert read_rows(path)[2] == {"env_steps": 3, "grad_norm": 0.5, "loss/policy": None}
    writer.close()
    writer.close()


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsWriter(path).write({"env_steps": 1, "grad_norm": float("inf"), "loss/value": np.float64("-inf")})
    text = path.read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert text.endswith("\n") and text.count("\n") == 1


@pytest.mark.parametrize("kept", range(1, 30, 4))
def test_a_torn_last_line_is_passed_over_and_gone_on_resume(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 10, 20).close()
    whole = path.read_bytes()
    torn = whole + whole.splitlines()[1][:kept]
    path.write_bytes(torn)
    assert [row["env_steps"] for row in read_rows(path)][:2] == [10, 20]
    written(path, 30)
    assert [row["env_steps"] for row in read_rows(path)] == [10, 20, 30]


def test_resume_cuts_the_rows_beyond_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = written(path, 10, 20, 30, 40)
    assert writer.truncate_after(25) == 2
    writer.write({"env_steps": 28})
    assert [row["env_steps"] for row in read_rows(path)] == [10, 20, 28]
    assert writer.truncate_after(28) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_damaged_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_steps": 1}\nrubbish\n{"env_steps": 2}\n')
    with pytest.raises(ConfigError, match="line 2 is not a row"):
        read_rows(path)
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        read_rows(tmp_path / "nothing")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from shoal.errors import CheckpointError
from shoal.records.metrics import MetricsWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = MetricsWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
try:
    for step in range(100):
        writer.write({"env_steps": step})
except CheckpointError as fault:
    print(fault)
"""


def test_full_disk_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
    assert len(lines) == 1 and "file too large" in lines[0]
    rows = read_rows(path)
    assert [row["env_steps"] for row in rows] == list(range(len(rows))) and len(rows) > 20
    assert path.read_bytes().endswith(b"}\n")


def test_unwritable_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be written"):
        MetricsWriter(tmp_path / "missing" / "metrics.jsonl")


def test_names_are_checked_against_the_list() -> None:
    row = dict.fromkeys(("env_steps", "phase_s/update", "wait_s/actor/put TRAJ", "loss/policy", "extra/x"), 0)
    assert unknown_names(row) == []
    assert unknown_names({"reward": 1, "loss/": 2, "phase_s": 3, "loss": 4}) == ["reward", "loss/", "phase_s", "loss"]


def test_the_list_names_each_metric_once_with_unit_and_meaning() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(metric.unit and metric.meaning for metric in METRICS)
