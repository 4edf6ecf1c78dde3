# SPDX-License-Identifier: Apache-2.0
"""Run the command as a user's shell does, and say what came out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from repository.sources import ROOT

# the exit code is the command's own; 99 tells that JAX was loaded where it must not be
# every case in one process: what one command loads is there for the next, so the first to load JAX is caught
EACH = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from shoal.cli.main import main
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    print(json.dumps([99 if "jax" in sys.modules else code, out.getvalue(), err.getvalue()]))
"""
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


def shoal_each(cases: list[tuple[str, ...]], cwd: Path) -> list[Answer]:
    """Run many commands in one new process; loading JAX counts as a failure of the command that did."""
    words = json.dumps(cases)
    command = [sys.executable, "-c", EACH]
    ran = subprocess.run(command, input=words, capture_output=True, text=True, cwd=cwd, env=environment(), check=True)
    return [Answer(*json.loads(line)) for line in ran.stdout.splitlines()]


def environment() -> dict[str, str]:
    """This process's variables without the debugging switch, finding this source first."""
    kept = {name: value for name, value in os.environ.items() if name != "SHOAL_DEBUG"}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


def refusal(*words: str, code: int = 2, jax: bool = False, cwd: Path | None = None) -> str:
    """The one line that a bad command gets; fails unless it is one line, without a traceback, with this exit code."""
    return one_line_of(shoal(*words, jax=jax, cwd=cwd), code)


def one_line_of(answer: Answer, code: int = 2) -> str:
    """The line, checked as `refusal` does."""
    assert answer.code == code, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("shoal: ")
    assert "Traceback" not in answer.out + answer.err
    return lines[0]
