# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM while `shoal.train` runs, and what they leave to the program around it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

import shoal
from cli.shell import environment
from repository.sources import ROOT
from shoal.errors import ConfigError
from shoal.records.metrics import read_rows
from shoal.training.signals import SignalWatch
from training.runs import checkpoints

START_S = 60
PROGRAM = """
import sys, shoal
result = shoal.train("a2c", {env!r}, run_dir={folder!r}, engine={engine!r}, env_steps=4_000_000, envs_per_actor=2,
                     unroll_length=8, quiet=True)
print("after training", result.exit_code, result.state.env_steps)
sys.exit(result.exit_code)
"""


def begin(folder, engine="inline", env="toy:catch", until="metrics.jsonl"):
    """A run of minutes in a process of its own, once it has written a row (or made the file `until`)."""
    program = PROGRAM.format(env=env, folder=str(folder), engine=engine)
    paths = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}", "STUCK": str(folder / "stuck")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes, env=environment() | paths)
    file, end = folder / until, monotonic() + START_S
    while not (file.exists() and file.stat().st_size > 0):
        assert process.poll() is None, process.communicate()[1]
        assert monotonic() < end
        sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code", "engine"), [(signal.SIGINT, 130, "inline"), (signal.SIGTERM, 143, "threads")]
)
def test_the_first_signal_saves_and_the_run_can_be_resumed(number, code, engine, tmp_path):
    folder = tmp_path / "run"
    process = begin(folder, engine)
    with pytest.raises(ConfigError, match="another process"):
        shoal.resume(folder, quiet=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    steps = int(out.split()[-1])
    assert out.startswith(f"after training {code}")  # the program around it goes on
    assert checkpoints(folder)[-1].name == f"step-{steps}"
    assert read_rows(folder / "metrics.jsonl")[-1]["env_steps"] == steps
    assert shoal.resume(folder, env_steps=steps + 100, quiet=True).state.env_steps >= steps + 100


def until_taken(process, number):
    """Wait until a signal that was sent is no longer on its way: two on their way are one."""
    end = monotonic() + START_S
    while True:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        (pending,) = [int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")]
        if not pending >> (number - 1) & 1:
            return
        assert monotonic() < end
        sleep(0.01)


def test_the_second_signal_leaves_at_once_even_when_a_step_never_returns(tmp_path):
    process = begin(tmp_path / "run", env="training.own_envs:Stuck", until="stuck")
    process.send_signal(signal.SIGINT)
    until_taken(process, signal.SIGINT)
    sleep(0.2)
    assert process.poll() is None
    end = monotonic() + START_S
    while process.poll() is None and monotonic() < end:  # one that came before Python had seen the first is none
        process.send_signal(signal.SIGINT)
        sleep(0.2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out, err) == ("", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watch_asks_once_and_gives_the_handlers_back(number, code):
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    asked = []
    with SignalWatch(asked.append, lambda: None) as watch:
        assert watch.exit_code == 0
        os.kill(os.getpid(), number)
        assert asked == [signal.Signals(number).name]
        assert watch.exit_code == code
    assert {n: signal.getsignal(n) for n in before} == before


def test_outside_the_main_thread_nothing_is_installed():
    before, found = signal.getsignal(signal.SIGINT), []

    def watch():
        with SignalWatch(found.append, lambda: None) as watched:
            found.append((watched.exit_code, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert found == [(0, before)]
