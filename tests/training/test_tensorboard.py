# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's own reader gives the metrics back, also after a resume."""

import sys

import pytest

import shoal
from shoal.errors import ConfigError
from shoal.records import checkpoint
from shoal.records.metrics import read_rows
from training.runs import everything_in

FIELDS = {"quiet": True, "seed": 0}


def scalars(folder):
    """{tag: [(step, value), ...]} as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected(rows, name):
    return [(row["env_steps"], pytest.approx(row[name], rel=1e-6)) for row in rows if row.get(name) is not None]


def test_events_hold_the_numbers_of_the_rows(tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    rows = shoal.train("ppo", "toy:catch", env_steps=6_000, run_dir=run, tensorboard=True, **FIELDS).metrics
    found = scalars(run / "tensorboard")
    assert {name for row in rows for name in row} >= set(found)
    for name in ("env_steps_per_s", "episode_return_mean", "loss/policy", "phase_s/update"):
        assert found[name] == expected(rows, name)


def test_what_lies_beyond_the_checkpoint_is_forgotten_on_resume(tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    shoal.train("ppo", "toy:catch", env_steps=6_000, run_dir=run, tensorboard=True, order="fixed", **FIELDS)
    last = checkpoint.paths(run / "checkpoints")[-1]
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    shoal.resume(run, env_steps=8_000, quiet=True)
    rows = read_rows(run / "metrics.jsonl")
    assert scalars(run / "tensorboard")["env_steps"] == expected(rows, "env_steps")


def test_without_the_package_it_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(ConfigError, match="pip install 'shoal\\[tensorboard\\]'"):
        shoal.train("ppo", "toy:catch", env_steps=100, run_dir=tmp_path / "run", tensorboard=True, **FIELDS)
    assert not (tmp_path / "run").exists()


def test_without_the_package_a_resume_is_refused_and_cuts_nothing(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    shoal.train("a2c", "toy:catch", env_steps=300, run_dir=run, tensorboard=True, **FIELDS)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 100000}\n')
    before = everything_in(run)
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(ConfigError, match="pip install 'shoal\\[tensorboard\\]'"):
        shoal.resume(run, env_steps=600, quiet=True)
    assert everything_in(run) == before
