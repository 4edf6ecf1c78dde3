# SPDX-License-Identifier: Apache-2.0
"""`shoal train` on a Ray cluster as a user runs it, on an environment that tells who steps it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.raylets import Raylets
from failure.told import STEPPING
from repository.sources import ROOT
from shoal.records import checkpoint
from shoal.records.metrics import read_rows


class RayRun:
    """A run in `folder` that was started, or goes on."""

    def __init__(self, raylets: Raylets, folder: Path, words: list[str]):
        self.folder, self.told = folder, folder.parent / "told"
        self._output = folder.parent / f"output-{time.monotonic_ns()}"
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
        with open(self._output, "w") as output:
            self.main = subprocess.Popen(
                raylets.on_head([sys.executable, "-m", "shoal", *words]), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, env=raylets.env | paths,
            )  # fmt: skip

    def said(self) -> str:
        """All that it printed."""
        return self._output.read_text()

    def rows(self) -> list[dict]:
        """Of metrics, so far."""
        path = self.folder / "metrics.jsonl"
        return read_rows(path) if path.exists() else []

    def steps(self) -> int:
        """Agent steps in the last row."""
        rows = self.rows()
        return rows[-1]["env_steps"] if rows else 0

    def log(self) -> str:
        """What log.txt says."""
        return (self.folder / "log.txt").read_text()

    def stepping(self) -> list[int]:
        """Processes that have stepped an environment and live."""
        pids = [int(path.name.removeprefix(STEPPING)) for path in self.told.glob(f"{STEPPING}*")]
        return [pid for pid in pids if psutil.pid_exists(pid)]

    def until(self, condition, seconds: float = 90.0) -> None:
        """Wait for it while the run goes on."""
        until = time.monotonic() + seconds
        while not condition():
            assert self.main.poll() is None, self.said()[-4000:]
            assert time.monotonic() < until, self.said()[-4000:]
            time.sleep(0.05)

    def end(self, seconds: float = 120.0) -> int:
        """Its exit code."""
        try:
            return self.main.wait(seconds)
        except subprocess.TimeoutExpired:
            self.main.kill()
            raise AssertionError(f"did not end within {seconds:g} s: {self.said()[-4000:]}") from None

    def is_whole(self, env_steps: int) -> None:
        """Rows grow strictly, the newest checkpoint is valid and as far as the last row."""
        rows = self.rows()
        for name in ("env_steps", "version", "wall_s"):
            values = [row[name] for row in rows]
            assert values == sorted(set(values)), name
        assert rows[-1]["env_steps"] >= env_steps
        saved = checkpoint.load_latest(self.folder / "checkpoints")
        assert saved.warnings == ()
        assert "Traceback" not in self.said()


def start(raylets: Raylets, folder: Path, architecture: str = "impala", step_s: float = 0.004, **fields) -> RayRun:
    """Begin to train."""
    (folder / "told").mkdir()
    kwargs = json.dumps({"folder": str(folder / "told"), "step_s": step_s})
    given = {"num_actors": 4, "envs_per_actor": 2, "unroll_length": 4, "batch_trajectories": 1, **fields}
    if architecture != "impala":
        del given["batch_trajectories"]
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return RayRun(raylets, folder / "run", [
        "train", architecture, "--env", "failure.told:Told", "--env-kwargs", kwargs, "--engine", "ray", "--address",
        raylets.address, "--run-dir", str(folder / "run"), *words,
    ])  # fmt: skip


def resume(raylets: Raylets, folder: Path) -> RayRun:
    """Go on, on this cluster."""
    return RayRun(raylets, folder / "run", ["resume", str(folder / "run"), "--address", raylets.address])
