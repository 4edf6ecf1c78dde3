# SPDX-License-Identifier: Apache-2.0
"""`shoal train auto`: what was measured and why something was chosen is kept with the run."""

import json

import pytest

import shoal
from shoal.cli.main import main
from shoal.errors import ConfigError
from shoal.placement.profile import read_profile
from shoal.training import auto


@pytest.fixture
def short(monkeypatch):
    """Measure for a moment only."""
    chosen = auto.choose
    monkeypatch.setattr(auto, "choose", lambda *args, **how: chosen(*args, **how, seconds=0.5))


def test_it_chooses_trains_and_keeps_the_reasons(short, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "auto", "--env", "toy:bandit", "--env-steps", "3000", "--run-dir", str(folder)]) == 0
    facts = json.loads((folder / "config.json").read_text())
    assert facts["architecture"] in ("ppo", "a2c", "impala")
    assert read_profile(folder / "profile.json").env.id == "toy:bandit"
    assert "auto: What limits" in (folder / "log.txt").read_text()
    assert f"chosen: {facts['architecture']}" in capsys.readouterr().out
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["env_steps"] >= 3000


def test_fields_that_are_given_stand(short, tmp_path):
    result = shoal.train("auto", "toy:bandit", env_steps=2000, seed=3, run_dir=tmp_path / "run", quiet=True)
    assert (result.config.seed, result.config.env_steps) == (3, 2000)


def test_what_cannot_be_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(auto, "choose", lambda *_, **__: pytest.fail("it measured"))
    with pytest.raises(ConfigError, match="auto chooses the config"):
        shoal.train("auto", "toy:bandit", config=object())
    with pytest.raises(ConfigError, match="auto measures networks by name"):
        shoal.train("auto", "toy:bandit", network=object)
    assert main(["train", "auto", "--env", "toy:bandits"]) == 2
    assert "toy:bandit" in capsys.readouterr().err
    assert main(["train", "auto", "--env", "toy:bandit", "--num-actors", "2"]) == 2
    assert "--num-actors" in capsys.readouterr().err
