# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C once saves and leaves with 130, twice leaves at once; SIGTERM saves and leaves with 143."""

import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from cli.shell import environment
from shoal.cli.main import main

START_S = 60
ENV_STEPS = 4_000_000
"""minutes of training, and a row of metrics every 20,000 steps: of much longer runs the first row comes after 10 s"""


def wait_for(condition, process) -> None:
    """Until the condition holds; fails if the process ends or START_S pass first."""
    end = monotonic() + START_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert monotonic() < end
        sleep(0.02)


def long_run(folder: Path) -> subprocess.Popen:
    """A run that would take minutes, once it has written its first row."""
    words = ["train", "impala", "--env", "CartPole-v1", "--env-steps", str(ENV_STEPS), "--run-dir", str(folder)]
    command = [sys.executable, "-m", "shoal", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    metrics = folder / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 0, process)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_saves(number, code, tmp_path):
    process = long_run(tmp_path / "run")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "2"]) == 0


def test_second_interrupt_leaves_at_once(tmp_path):
    process = long_run(tmp_path / "run")
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # both are there when it goes on, and are handled in the order of their numbers
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err
