# SPDX-License-Identifier: Apache-2.0
"""Measured processes: seconds, processor seconds, peak memory, and when a file first held a line."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import ROOT

LOOK_S = 0.002


class Measured(NamedTuple):
    """What one process did."""

    seconds: float
    """from start to end, as a user waits for it"""
    cpu_seconds: float
    """user and system, children included"""
    peak_bytes: int
    """of resident memory"""
    first_line_s: float | None
    """from start until the watched file held its first line"""
    code: int
    output: str
    errors: str

    def answer(self) -> dict[str, Any]:
        """The JSON object on the last line of its output."""
        return json.loads(self.output.strip().splitlines()[-1])

    def facts(self) -> dict[str, Any]:
        """What a result keeps of it."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_bytes": self.peak_bytes}


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    watch: Path | None = None,
    cwd: Path = ROOT,
    expect: int | None = 0,
) -> Measured:
    """Run a command to its end.

    Args:
      env: variables on top of this process's.
      watch: a file whose first line is waited for.
      expect: exit code that it must end with; None takes any. RuntimeError shows what it wrote otherwise.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **(env or {})}, cwd=cwd, stdout=output, stderr=errors)
        first_line_s, ended = _wait_for_line(watch, process.pid, began) if watch else (None, None)
        _, status, usage = ended or os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        measured = Measured(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            first_line_s=first_line_s,
            code=process.returncode,
            output=output.read(),
            errors=errors.read(),
        )
    if expect is not None and measured.code != expect:
        raise RuntimeError(f"{' '.join(command)} ended with {measured.code}:\n{measured.output}{measured.errors}")
    return measured


def _wait_for_line(path: Path, pid: int, began: float) -> tuple[float | None, tuple[int, int, Any] | None]:
    """Seconds until `path` held something, and what wait4 gave if the process ended meanwhile."""
    ended = None
    while True:
        if path.exists() and path.stat().st_size:
            return time.perf_counter() - began, ended
        if ended:
            return None, ended
        answer = os.wait4(pid, os.WNOHANG)
        ended = answer if answer[0] else None
        time.sleep(0 if ended else LOOK_S)
