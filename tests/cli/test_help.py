# SPDX-License-Identifier: Apache-2.0
"""Help is complete and needs no JAX."""

import dataclasses
import subprocess
import sys

import pytest

from cli.shell import environment, shoal, shoal_each
from shoal.architectures import registry
from shoal.cli.main import COMMANDS
from shoal.cli.train import Options


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command(words):
    answer = shoal(*words)
    assert answer.code == 0
    assert answer.err == ""
    assert all(f"  {name} " in answer.out for name in COMMANDS)


def test_each_command_has_help(tmp_path):
    answers = shoal_each([(command, "--help") for command in COMMANDS], cwd=tmp_path)
    for command, answer in zip(COMMANDS, answers, strict=True):
        assert (answer.code, answer.err) == (0, ""), command
        assert f"usage: shoal {command}" in answer.out


@pytest.mark.parametrize("architecture", registry.ARCHITECTURES)
def test_train_help_lists_every_field_with_default_and_meaning(architecture):
    answer = shoal("train", architecture, "--help")
    assert answer.code == 0
    config = registry.load(architecture).Config
    words = " ".join(answer.out.replace("│", " ").split())
    for field in [*dataclasses.fields(config), *dataclasses.fields(Options)]:
        assert f"--{field.name.replace('_', '-')} " in words.replace(",", " "), field.name
    for field in dataclasses.fields(config):
        after = words.replace(",", " ").partition(f"--{field.name.replace('_', '-')} ")[2]
        meaning, found, default = after.partition("(default: ")
        assert found
        assert len(meaning.split()) > 1
        assert default.startswith(str(getattr(config(), field.name))), field.name


def test_help_shows_the_defaults_for_the_environment():
    plain, pendulum = shoal("train", "ppo", "--help").out, shoal("train", "ppo", "--env", "Pendulum-v1", "--help").out
    assert plain != pendulum


def test_version_and_lists():
    import shoal as package

    assert shoal("--version").out.strip() == package.__version__
    assert [line.split()[0] for line in shoal("list", "architectures").out.splitlines()] == list(registry.ARCHITECTURES)
    engines = [line.split()[0] for line in shoal("list", "engines").out.splitlines()]
    assert engines == ["inline", "threads", "processes", "ray", "simulated"]
    envs = shoal("list", "envs").out
    assert "  CartPole-v1\n" in envs
    assert "  ale:pong\n" in envs


def test_a_closed_pipe_is_no_fault():
    command = f"{sys.executable} -m shoal list envs | head -n 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment())
    assert ran.stdout.splitlines()[-1] == "0"
    assert ran.stderr == ""
