# SPDX-License-Identifier: Apache-2.0
"""`shoal advise` from profiles: read back, compared, merged; nothing is measured. What it refuses is one line."""

import dataclasses

import pytest

from placement.made_up import profile, trial
from shoal import __version__
from shoal.cli import advise as command
from shoal.cli.main import main
from shoal.placement import measure
from shoal.placement.compare import here
from shoal.placement.profile import read_profile, write_profile

RUNS = (trial(), trial("impala", engine="threads"))
MADE = profile(hardware=here(), shoal=__version__, trials=RUNS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Profiles a, b (a slower environment), of this machine; other, of another one; empty, without runs."""
    write_profile(tmp_path / "a.json", MADE)
    write_profile(tmp_path / "b.json", dataclasses.replace(MADE, env_step=profile(step=(6e-5, 1e-6)).env_step))
    write_profile(tmp_path / "other.json", profile(trials=RUNS))
    write_profile(tmp_path / "empty.json", profile())
    write_profile(tmp_path / "lstm.json", dataclasses.replace(MADE, network="lstm"))
    monkeypatch.chdir(tmp_path)

    def never(*_, **__):
        raise AssertionError("nothing is measured")

    monkeypatch.setattr(measure, "measure_env", never)
    return tmp_path


def test_advice_from_a_profile(folder, capsys):
    assert command.run(["--profile", "a.json"]) == 0
    out, told = capsys.readouterr()
    assert "Where the time goes  ppo" in out
    assert "measured in 20 s" in out
    assert told == ""
    assert command.run(["--profile", "a.json", "--arch", "impala"]) == 0
    assert "Where the time goes  impala" in capsys.readouterr().out


def test_a_profile_of_another_machine_is_told_in_one_line(folder, capsys):
    assert command.run(["--profile", "other.json"]) == 0
    out, told = capsys.readouterr()
    assert "Verdict" in out
    assert told.startswith("note: measured with ")
    assert "processor made up (here" in told
    assert len(told.strip().splitlines()) == 1


def test_two_profiles_beside_one_another(folder, capsys):
    assert command.run(["--profile", "a.json", "--compare", "b.json"]) == 0
    out = capsys.readouterr().out
    assert "A  a.json" in out
    assert "3 of 14 differ by more than the noise of both" in out


def test_profiles_are_merged(folder, capsys):
    assert command.run(["--profile", "a.json", "--merge", "b.json", "a.json", "--json", "out.json"]) == 0
    assert "profile: out.json" in capsys.readouterr().out
    merged = read_profile(folder / "out.json")
    assert merged.env_step.at(8) == pytest.approx((58e-6 + 68e-6 + 58e-6) / 3)
    assert merged.measured_s == 60.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "missing --env; measure one with --env ENV, or give --profile FILE"),
        (["--compare", "a.json"], "--compare and --merge are of profiles"),
        (["--env", "CartPole-v1", "--merge", "a.json"], "--compare and --merge are of profiles"),
        (["--env", "CartPole-v1", "--profile", "a.json"], "give one of them"),
        (["--profile", "a.json", "--network", "lstm"], "are for measuring"),
        (["--profile", "a.json", "--engine", "ray"], "--engine ray says what to measure"),
        (["--profile", "a.json", "--compare", "b.json", "--merge", "b.json"], "give one of them"),
        (["--profile", "a.json", "--merge", "b.json"], "say where to write it with --json"),
        (["--profile", "a.json", "--json", "out.json"], "--json writes what is measured or merged"),
        (["--profile", "gone.json"], "cannot be read: no such file"),
        (["--profile", "a.json", "--compare", "gone.json"], "cannot be read: no such file"),
        (["--profile", "a.json", "--compare", "lstm.json"], "the profiles are of other work"),
        (["--profile", "a.json", "--merge", "other.json", "--json", "out.json"], "cannot be merged"),
        (["--profile", "a.json", "--merge", "b.json", "--json", "none/out.json"], "cannot be written"),
        (["--profile", "a.json", "--arch", "a2c"], "a.json holds no run of a2c"),
        (["--profile", "a.json", "--arch", "sac"], "sac"),
        (["--profile", "empty.json"], "empty.json holds no run"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(words, said, folder, capsys):
    assert main(["advise", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not (folder / "out.json").exists()
