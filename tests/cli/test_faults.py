# SPDX-License-Identifier: Apache-2.0
"""Every exception ends as one line and the right exit code; nothing escapes `main`."""

import re
from pathlib import Path

import pytest

from shoal.cli import main as entry
from shoal.cli.faults import choose, nearest
from shoal.cli.main import main
from shoal.engines import RoleFailed
from shoal.errors import (
    CheckpointError,
    ConfigError,
    EnvironmentFault,
    HangError,
    NonFiniteError,
)


def answer_to(fault, monkeypatch, capsys) -> tuple[int, str]:
    """(exit code, standard error) of a command that raises `fault`."""

    def command(_argv):
        raise fault

    monkeypatch.setattr(entry, "command_named", lambda _name: command)
    code = main(["train"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (EnvironmentFault, 3), (CheckpointError, 4), (NonFiniteError, 5), (HangError, 6)],
)
def test_explained_faults(kind, code, monkeypatch, capsys):
    assert answer_to(kind("value\n  reason; remedy"), monkeypatch, capsys) == (code, "shoal: value reason; remedy\n")
    inner = RoleFailed("impala", "actor", 1, kind("value"))
    got, line = answer_to(inner, monkeypatch, capsys)
    assert got == code
    assert re.fullmatch(r"shoal: .*actor.*value\n", line)


@pytest.mark.parametrize("wrap", [False, True])
def test_unexpected_faults_leave_their_traceback_in_a_file(wrap, monkeypatch, capsys):
    fault = ZeroDivisionError("of all things\nhere")
    if wrap:
        outer = RoleFailed("impala", "actor", 1, fault)
        outer.__cause__ = fault
        fault = outer
    code, line = answer_to(fault, monkeypatch, capsys)
    assert code == 1
    assert line.count("\n") == 1
    assert "ZeroDivisionError: of all things here" in line
    file = Path(line.rpartition("traceback in ")[2].strip())
    assert "ZeroDivisionError: of all things" in file.read_text()
    file.unlink()


def test_debug_switch_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("SHOAL_DEBUG", "1")
    _, text = answer_to(ConfigError("x"), monkeypatch, capsys)
    assert text.startswith("Traceback")
    assert text.endswith("shoal: x\n")


def test_interrupt_before_training_began(monkeypatch, capsys):
    assert answer_to(KeyboardInterrupt(), monkeypatch, capsys) == (130, "shoal: interrupted\n")


def test_windows_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.platform", "win32")
    assert main(["--help"]) == 2
    assert capsys.readouterr().err.startswith("shoal: Windows is not supported")


def test_nearest_names():
    assert nearest("cartpole", ["CartPole-v1", "Pong"]) == ["CartPole-v1"]
    assert nearest("qqq", ["CartPole-v1"]) == []
    assert choose("thing", "a", ["a", "b"]) == "a"
    with pytest.raises(ConfigError, match="unknown thing 'q'; use one of a, b"):
        choose("thing", "q", ["a", "b"])
