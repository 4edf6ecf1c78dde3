# SPDX-License-Identifier: Apache-2.0
"""Faults in the middle of a run, damaged checkpoints, folders in use: one line, an exit code, and nothing is lost."""

import shutil

import numpy as np
import pytest

import shoal
from agents.made import WrongHead
from shoal.architectures import registry
from shoal.engines import RoleFailed
from shoal.errors import CheckpointError, ConfigError, NonFiniteError
from shoal.records import checkpoint
from shoal.records.metrics import read_rows
from shoal.records.run_dir import RunDir
from training.own_envs import Late
from training.runs import SMALL, checkpoints, everything_in, facts, train, untimed_rows


def one_line(fault) -> str:
    """The message, checked to be one line."""
    line = str(fault.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("engine", ["inline", "threads"])
@pytest.mark.parametrize(("name", "reason"), [("Late", "lost its licence"), ("NanLate", "not finite")])
def test_an_environment_that_fails_late(name, reason, engine, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with pytest.raises(RoleFailed) as fault:
        train(folder, env=f"training.own_envs:{name}", engine=engine, num_actors=2)
    line = one_line(fault)
    assert fault.value.exit_code == 3
    for part in ("actor/", f"training.own_envs:{name}", reason):
        assert part in line
    assert "RoleFailed" in (folder / "log.txt").read_text()
    rows = read_rows(folder / "metrics.jsonl")
    saved = checkpoint.load_latest(folder / "checkpoints")
    assert 0 < saved.step == rows[-1]["env_steps"] < SMALL["env_steps"]
    # once it is repaired the run goes on from there
    monkeypatch.setattr(Late, "broken", False)
    kept = untimed_rows(folder)
    assert shoal.resume(folder, quiet=True).state.env_steps >= SMALL["env_steps"]
    assert untimed_rows(folder)[: len(kept)] == kept


def test_an_environment_that_fails_before_the_first_update(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(Late, "calls", 3)
    with pytest.raises(RoleFailed):
        train(folder, env="training.own_envs:Late")
    assert [path.name for path in checkpoints(folder)] == ["step-0"]
    monkeypatch.setattr(Late, "broken", False)
    assert shoal.resume(folder, quiet=True).state.env_steps >= SMALL["env_steps"]


def test_numbers_that_are_not_finite_keep_the_last_sound_params(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(NonFiniteError) as fault:
        train(folder, learning_rate=3e38, optimiser="sgd", anneal_learning_rate=False, max_grad_norm=1e6)
    assert fault.value.exit_code == 5
    assert "learning_rate" in one_line(fault)
    assert np.isfinite(checkpoint.load_latest(folder / "checkpoints").arrays["params"]).all()


@pytest.mark.parametrize("engine", ["inline", "threads"])
def test_a_fault_that_nobody_foresaw_saves_too(engine, tmp_path, monkeypatch):
    from shoal.learners import single

    calls = []

    def refuse(metrics, updates):
        calls.append(updates)
        if len(calls) == 4:
            raise ZeroDivisionError("of all things")
        return metrics

    monkeypatch.setattr(single, "refuse_non_finite", refuse)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "run", engine=engine)
    saved = checkpoint.load_latest(tmp_path / "run" / "checkpoints")
    assert saved.meta["updates"] == 3
    assert read_rows(tmp_path / "run" / "metrics.jsonl")[-1]["updates"] == 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with several checkpoints."""
    return train(tmp_path_factory.mktemp("finished") / "run", order="fixed").run_dir


def truncate(path):
    file = path / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def test_a_truncated_checkpoint_is_passed_over(finished, tmp_path, capsys):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (*_, older, newest) = checkpoints(copy)
    truncate(newest)
    assert shoal.load(copy).state.env_steps == int(older.name.removeprefix("step-"))
    resumed = shoal.resume(copy, quiet=True)
    of_load, of_resume = capsys.readouterr().err.splitlines()
    assert of_load == of_resume
    assert newest.name in of_load
    assert "using an older checkpoint" in of_load
    # what was damaged is kept beside, and the run is whole again
    assert any(path.name.startswith("unused-") for path in (copy / "checkpoints").iterdir())
    assert untimed_rows(copy) == untimed_rows(finished)
    np.testing.assert_array_equal(resumed.state.params, shoal.load(finished).state.params)


def test_no_sound_checkpoint(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    for path in checkpoints(copy):
        truncate(path)
    before = everything_in(copy)
    for use in (shoal.load, shoal.evaluate, lambda run: shoal.resume(run, quiet=True)):
        with pytest.raises(CheckpointError, match="damaged") as fault:
            use(copy)
        assert fault.value.exit_code == 4
        one_line(fault)
    assert everything_in(copy) == before


def test_a_folder_that_holds_a_run_is_refused(finished):
    before = everything_in(finished)
    with pytest.raises(ConfigError, match="shoal resume"):
        train(finished)
    assert everything_in(finished) == before


def test_only_one_process_trains_in_a_folder(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = everything_in(copy)
    with RunDir.open(copy).claimed():
        with pytest.raises(ConfigError, match="another process") as fault:
            shoal.resume(copy, env_steps=10_000, quiet=True)
        assert fault.value.exit_code == 2
        assert everything_in(copy) == before
        # looking is allowed
        assert shoal.evaluate(copy, episodes=1)["episodes"] == 1
    assert shoal.resume(copy, quiet=True).state.env_steps >= SMALL["env_steps"]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"network": "nope"}, "'nope'"),
        ({"network": WrongHead}, "WrongHead"),
        ({"network": "nature_cnn"}, "use mlp"),
        ({"unroll_length": 0}, "unroll_length=0"),
        ({"unroll_lenght": 5}, "nearest: unroll_length"),
        ({"optimiser": "adma"}, "'adma'"),
        ({"engine": "thread"}, "'thread'"),
        ({"order": "random"}, "'random'"),
        ({"stop_return": float("nan")}, "stop_return"),
        ({"stop_minutes": -1}, "stop_minutes"),
        ({"env": "toy:cath"}, "toy:catch"),
        ({"env": 5}, "int object is not callable"),
        ({"env_kwargs": {"rows": 1}}, "rows"),
        ({"config": registry.load("ppo").Config()}, "shoal.architectures.a2c.Config"),
        ({"config": {"env_steps": 5}}, "shoal.architectures.a2c.Config"),
    ],
)
def test_what_cannot_begin_leaves_no_folder(settings, part, tmp_path):
    with pytest.raises(ConfigError) as fault:
        train(tmp_path / "run", **settings)
    assert part in one_line(fault)
    assert list(tmp_path.iterdir()) == []


def test_resume_refuses_unknown_fields_and_leaves_config_alone(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = facts(copy)
    for fields in ({"env_step": 5}, {"env_steps": -5}):
        with pytest.raises(ConfigError, match="env_steps"):
            shoal.resume(copy, quiet=True, **fields)
    assert facts(copy) == before
