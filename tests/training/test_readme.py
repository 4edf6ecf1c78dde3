# SPDX-License-Identifier: Apache-2.0
"""The README's Python runs as it stands, and its commands are ones that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from shoal.cli.main import COMMANDS
from shoal.cli.train import parse_fields

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
LINES = [shlex.split(line, comments=True) for language, text in BLOCKS if not language for line in text.splitlines()]
COMMAND_LINES = [line for line in LINES if line and line[0] == "shoal"]
MADE_UP = ("my_package", "...")


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  the page's own code is what is tested
    assert names["action"] in (0, 1)
    assert (tmp_path / names["result"].run_dir / "report.html").is_file()


@pytest.mark.parametrize("line", COMMAND_LINES, ids=" ".join)
def test_commands_exist_and_their_flags_are_taken(line):
    assert line[1] in COMMANDS
    if line[1] == "train" and not any(part in word for word in line for part in MADE_UP):
        options, config, _ = parse_fields(line[2], line[3:])
        assert options.env
        assert config.env_steps > 0


def test_there_is_something_to_test():
    assert PYTHON
    assert len(COMMAND_LINES) >= 5
