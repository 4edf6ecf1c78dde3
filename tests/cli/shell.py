# SPDX-License-Identifier: Apache-2.0
"""Run the command as a user's shell does, and say what came out."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from repository.sources import ROOT

# the exit code is the command's own; 99 tells that JAX was loaded where it must not be
WITH_JAX = "import sys; from shoal.cli.main import main; code = main(sys.argv[1:]); "
WITHOUT_JAX = WITH_JAX + "code = 99 if 'jax' in sys.modules else code; "


class Answer(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def shoal(*words: str, jax: bool = False, cwd: Path | None = None) -> Answer:
    """Run `shoal WORDS`; unless `jax`, loading JAX counts as a failure."""
    command = [sys.executable, "-c", (WITH_JAX if jax else WITHOUT_JAX) + "sys.exit(code)", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL)
    return Answer(ran.returncode, ran.stdout, ran.stderr)


def environment() -> dict[str, str]:
    """This process's variables without the debugging switch, finding this source first."""
    kept = {name: value for name, value in os.environ.items() if name != "SHOAL_DEBUG"}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


def refusal(*words: str, code: int = 2, jax: bool = False, cwd: Path | None = None) -> str:
    """The one line that a bad command gets; fails unless it is one line, without a traceback, with this exit code."""
    answer = shoal(*words, jax=jax, cwd=cwd)
    assert answer.code == code, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("shoal: ")
    assert "Traceback" not in answer.out + answer.err
    return lines[0]
