# SPDX-License-Identifier: Apache-2.0
"""`shoal train` as a user runs it, its processes as the kernel sees them, and what it left in its folder.

A run's processes are those of its sessions: the command leads one, each fork server another, and children stay in it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from cli.shell import environment
from failure.told import GO_ON, PROGRAM, STEPPING
from repository.sources import ROOT
from shoal.records import checkpoint
from shoal.records.metrics import read_rows

START_S = 60
GONE_S = 60.0
"""within which nothing of a run that was killed may be left"""


class Process(NamedTuple):
    """A line of the kernel's table of processes."""

    pid: int
    parent: int
    session: int


def table() -> list[Process]:
    """All processes that have not ended; one that only waits for its parent to look has."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent, _, session = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state not in "ZX":
            found.append(Process(int(name), int(parent), int(session)))
    return found


def segments(pids: set[int]) -> set[int]:
    """Inodes of the nameless shared memory that processes hold, open or mapped."""
    found = set()
    for pid in pids:
        try:
            for fd in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(fd.path).startswith("/memfd:shoal"):
                    found.add(fd.stat().st_ino)
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "/memfd:shoal" in line:
                    found.add(int(line.split()[4]))
        except OSError:
            continue
    return found


class Run:
    """A command of shoal that runs."""

    def __init__(self, folder: Path, command: list[str]):
        self.folder, self.told = folder / "run", folder / "told"
        self._named = set(os.listdir("/dev/shm"))
        self._output, self._errors = folder / "output", folder / "errors"
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
        with open(self._output, "w") as output, open(self._errors, "w") as errors:
            self.main = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment() | paths,
                start_new_session=True,
            )  # fmt: skip
        self._sessions = {self.main.pid}
        self._segments: set[int] = set()

    def server(self) -> int | None:
        """Process id of the fork server that runs now."""
        for process in table():
            if process.parent == self.main.pid and process.session != self.main.pid:
                self._sessions.add(process.pid)
                return process.pid
        return None

    def pids(self) -> set[int]:
        """All that belongs to the run and has not ended."""
        return {process.pid for process in table() if process.session in self._sessions}

    def children(self) -> set[int]:
        """Whom the fork server has started: actors, workers of environments."""
        server = self.server()
        return {process.pid for process in table() if process.parent == server}

    def stepping(self) -> set[int]:
        """Who has ever stepped an environment."""
        return self._in_files(STEPPING)

    def programs(self) -> set[int]:
        """Programs that environments have started."""
        return self._in_files(PROGRAM)

    def until(self, condition: Callable[[], Any], seconds: float = START_S) -> None:
        """Wait for it; the command must not end before."""
        end = monotonic() + seconds
        while not condition():
            assert self.main.poll() is None, self.said()
            assert monotonic() < end, self.said()
            sleep(0.005)

    def until_training(self, steppers: int) -> None:
        """Wait until so many processes step environments and a row of metrics is there."""
        self.until(lambda: len(self.stepping() & self.children()) >= steppers and self.rows())

    def go_on(self) -> None:
        """Let environments go on that are held."""
        (self.told / GO_ON).touch()

    def kill(self, *pids: int, number: int = signal.SIGKILL) -> None:
        """Signal processes of this run, all at once; what they hold of memory is remembered."""
        assert set(pids) <= self.pids()
        self._segments |= segments(self.pids())
        for pid in pids:
            os.kill(pid, number)

    def end(self, seconds: float = 60) -> int:
        """Wait for the command; its exit code. Nothing of it is left then."""
        code = self.main.wait(seconds)
        self.leaves_nothing()
        return code

    def leaves_nothing(self) -> None:
        """No process of the run within GONE_S, no name in /dev/shm, no segment in anybody's hands."""
        end = monotonic() + GONE_S
        while (left := self.pids()) and monotonic() < end:
            sleep(0.005)
        assert left == set(), [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        while not set(os.listdir("/dev/shm")) <= self._named and monotonic() < end:
            sleep(0.05)  # other tests may have a name there for a moment
        assert set(os.listdir("/dev/shm")) <= self._named
        assert not self._segments & segments({process.pid for process in table()})

    def rows(self) -> list[dict[str, Any]]:
        """Of metrics, so far."""
        path = self.folder / "metrics.jsonl"
        return read_rows(path) if path.exists() else []

    def said(self) -> str:
        """Standard output and standard error."""
        return self._output.read_text() + self._errors.read_text()

    def complaint(self) -> str:
        """The one line on standard error."""
        (line,) = self._errors.read_text().splitlines()
        assert line.startswith("shoal: ")
        return line

    def log(self) -> list[str]:
        """Lines of log.txt."""
        return (self.folder / "log.txt").read_text().splitlines()

    def is_whole(self, env_steps: int) -> dict[str, Any]:
        """Check everything that a run leaves which trained so far at least; its last row."""
        lines = (self.folder / "metrics.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        rows = [json.loads(line) for line in lines]
        for name in ("env_steps", "version", "wall_s"):
            values = [row[name] for row in rows]
            assert values == sorted(set(values)), name
        updates = [row["updates"] for row in rows]
        assert updates == sorted(updates)  # none while a memory fills
        generated = [row["env_steps_generated"] for row in rows]
        assert generated == sorted(generated)
        assert all(row["env_steps_generated"] >= row["env_steps"] for row in rows)
        assert rows[-1]["env_steps"] >= env_steps
        saved = checkpoint.load_latest(self.folder / "checkpoints")
        assert saved.warnings == ()
        assert saved.step == saved.meta["env_steps"] == rows[-1]["env_steps"]
        assert "Traceback" not in self.said()
        return rows[-1]

    def _in_files(self, kind: str) -> set[int]:
        return {int(path.name.removeprefix(kind)) for path in self.told.glob(f"{kind}*")}


def train(folder: Path, architecture: str = "impala", **settings: Any) -> Run:
    """Begin `shoal train` on the environment that tells who steps it; `env_kwargs` are its settings."""
    told = folder / "told"
    told.mkdir()
    kwargs = {"folder": str(told), **settings.pop("env_kwargs", {})}
    fields = {"engine": "processes", "num_actors": 2, "envs_per_actor": 2, "unroll_length": 4, **settings}
    if architecture == "impala":
        fields = {"batch_trajectories": 1, **fields}
    words = [word for name, value in fields.items() for word in flag(name, value)]
    env = ["--env", "failure.told:Told", "--env-kwargs", json.dumps(kwargs)]
    return Run(
        folder, [sys.executable, "-m", "shoal", "train", architecture, *env, "--run-dir", str(folder / "run"), *words]
    )


def flag(name: str, value: Any) -> list[str]:
    """The words that set a field."""
    word = f"--{name.replace('_', '-')}"
    return [word] if value is True else [word, str(value)]


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Nothing of it outlives the test, however that ends."""
    try:
        yield run
    finally:
        for pid in run.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        run.main.wait()
