# SPDX-License-Identifier: Apache-2.0
"""A learner process that is lost: the run goes on by itself from its newest checkpoint, and not for ever."""

import os
import signal
from contextlib import contextmanager

import pytest

from clusters import LocalCluster
from engines.running import all_end
from shoal import training
from shoal.engines import Engine, LearnerLost
from shoal.errors import CheckpointError
from shoal.records import checkpoint
from shoal.records.flow import read_flow
from shoal.records.metrics import read_rows
from shoal.training import recorder, starts
from shoal.training.clusters import News
from shoal.training.signals import EXIT_CODES
from shoal.training.starts import RESTARTS
from shoal.training.states import pack
from training.runs import checkpoints, train

JOINT = {"learners": 2, "learner_processes": 2, "num_actors": 2}
UPDATE = 2 * 2 * 8
"""env_steps of an update"""


def log_of(folder):
    return (folder / "log.txt").read_text().splitlines()


def when(monkeypatch, updates, act):
    """Call act(engine) once, after so many updates."""
    visit, seen = recorder.Recorder.visit, []

    def visited(self, state, batch, metrics):
        state = visit(self, state, batch, metrics)
        if state.updates >= updates and not seen:
            seen.append(state.env_steps)
            act(self.engine)
        return state

    monkeypatch.setattr(recorder.Recorder, "visit", visited)
    return seen


def place_of(engine, index):
    """Where a learner process is: its line of flow.json."""
    return next(place for place in engine.pids if (place["role"], place["index"]) == ("learner", index))


def kill(engine, index):
    os.kill(place_of(engine, index)["pid"], signal.SIGKILL)


@contextmanager
def on_nodes(monkeypatch, count):
    """Let runs on ray have nodes of this machine."""
    cluster = LocalCluster(count)

    @contextmanager
    def opened(_fields):
        yield cluster, News()

    monkeypatch.setattr(training, "opened_cluster", opened)
    try:
        yield cluster
    finally:
        cluster.close()


def went_on(folder, result, lost_at):
    """What must hold of a run that lost a learner at so many env_steps; the step that it went on from."""
    assert result.exit_code == 0
    assert result.state.env_steps >= result.config.env_steps
    steps = [row["env_steps"] for row in read_rows(folder / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    assert steps[-1] == result.state.env_steps
    (line,) = [line for line in log_of(folder) if "goes on by itself" in line]
    assert "learner process" in line
    assert f"try 1 of {RESTARTS} from there" in line
    begun = int(line.partition("from step-")[2].partition(",")[0])
    segments = read_flow(folder / "flow.json")["segments"]
    assert [segment["from_env_steps"] for segment in segments] == [0, begun]
    assert segments[-1]["to_env_steps"] == result.state.env_steps
    assert begun <= lost_at + 2 * UPDATE
    assert not any("stopped by" in line for line in log_of(folder))
    pids = [place["pid"] for segment in segments for place in segment["pids"]]
    assert all_end(pids)
    return begun


@pytest.mark.slow
@pytest.mark.parametrize("index", [1, 2])
def test_a_run_goes_on_when_a_learner_process_is_killed(tmp_path, monkeypatch, index):
    lost_at = when(monkeypatch, 6, lambda engine: kill(engine, index))
    result = train(tmp_path / "run", engine="processes", env_steps=20 * UPDATE, **JOINT)
    assert went_on(tmp_path / "run", result, lost_at[0]) >= lost_at[0]  # what the main process has is not lost


@pytest.mark.slow
@pytest.mark.parametrize("index", [1, 2])
def test_a_run_goes_on_when_a_node_with_a_learner_is_lost(tmp_path, monkeypatch, index):
    with on_nodes(monkeypatch, 2) as cluster:
        lost_at = when(monkeypatch, 6, lambda engine: cluster.lose(place_of(engine, index)["node"]))
        result = train(tmp_path / "run", engine="ray", env_steps=20 * UPDATE, **JOINT)
        assert went_on(tmp_path / "run", result, lost_at[0]) >= lost_at[0]
    first, second = read_flow(tmp_path / "run" / "flow.json")["segments"]
    assert {place["node"] for place in first["pids"] if place["role"] == "learner"} == {"node0", "node1"}
    assert len({place["node"] for place in second["pids"]}) == 1


@pytest.mark.slow
def test_rows_beyond_the_checkpoint_are_cut_when_the_last_state_could_not_be_saved(tmp_path, monkeypatch):
    save, full, newest = checkpoint.save, [], []

    def saved(folder, step, *args):
        if full:
            full.clear()  # there is room again afterwards
            raise CheckpointError("no space left on device")
        return save(folder, step, *args)

    def fill_and_kill(engine):
        full.append(True)
        newest.append(int(checkpoints(tmp_path / "run")[-1].name.partition("-")[2]))
        kill(engine, 2)

    monkeypatch.setattr(checkpoint, "save", saved)
    monkeypatch.setattr(recorder, "LEAST_SECONDS_PER_ROW", 0.0)
    monkeypatch.setattr(recorder.Recorder, "_is_best", lambda self: self.state.updates == 3)
    monkeypatch.setattr(recorder, "SECONDS_PER_BEST", 0.0)
    lost_at = when(monkeypatch, 6, fill_and_kill)
    result = train(tmp_path / "run", engine="processes", env_steps=20 * UPDATE, **JOINT)
    assert went_on(tmp_path / "run", result, lost_at[0]) == newest[0] < lost_at[0]
    assert any("the last state could not be saved" in line for line in log_of(tmp_path / "run"))


def test_losses_are_counted_anew_when_the_run_came_further_between_them(tmp_path, monkeypatch):
    folder, begun = tmp_path / "run", []
    last = train(folder, env_steps=100).state.env_steps
    once = starts._once

    def lose(session, parts, state, meta, **settings):
        begun.append(state.env_steps)
        if len(begun) == RESTARTS:  # this start comes further than those before it
            step = state.env_steps + 40
            checkpoint.save(session.run.checkpoints_path, step, pack(state), {**meta, "env_steps": step})
        if len(begun) < RESTARTS + 3:
            raise LearnerLost("learner process 1 of 2 died")
        return once(session, parts, state, meta, **settings)

    monkeypatch.setattr(starts, "_once", lose)
    assert training.resume(folder, env_steps=400, quiet=True).state.env_steps >= 400
    assert begun == [last] * RESTARTS + [last + 40] * 3
    tries = [line.partition(", try ")[2][0] for line in log_of(folder) if "goes on by itself" in line]
    assert tries == ["1", "2", "1", "2", "3"]


def test_a_run_without_a_checkpoint_to_go_on_from_says_so(tmp_path, monkeypatch):
    def lose(*_args, **_settings):
        raise LearnerLost("learner process 1 of 2 died")

    monkeypatch.setattr(starts, "_once", lose)
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        train(tmp_path / "run", env_steps=100)
    assert "stopped by CheckpointError" in log_of(tmp_path / "run")[-1]


@pytest.mark.parametrize("stopped", [True, False])
def test_a_learner_that_is_lost_after_the_run_was_asked_to_stop_is_not_missed(tmp_path, monkeypatch, stopped):
    losses = []

    def lose(_engine):
        if stopped:
            signal.raise_signal(signal.SIGTERM)
        losses.append(True)
        raise LearnerLost("learner process 1 of 2 died")

    lost_at = when(monkeypatch, 3, lose)
    result = train(tmp_path / "run", engine="inline", env_steps=1000)
    assert len(losses) == 1
    if stopped:
        assert lost_at[0] == result.state.env_steps < 1000
        assert result.exit_code == EXIT_CODES[signal.SIGTERM]
        assert not any("goes on" in line for line in log_of(tmp_path / "run"))
    else:
        assert went_on(tmp_path / "run", result, lost_at[0]) == lost_at[0]


@pytest.mark.slow
def test_a_run_that_loses_a_learner_at_every_start_ends_in_one_line(tmp_path, monkeypatch):
    born = Engine.born

    def stillborn(self, worker, pid, node=None):
        born(self, worker, pid, node)
        if (worker.role, worker.index, worker.epoch) == ("learner", 2, 0):
            os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(Engine, "born", stillborn)
    with pytest.raises(LearnerLost, match=f"{RESTARTS} more starts from step-0 came no further") as ended:
        train(tmp_path / "run", engine="processes", env_steps=20 * UPDATE, **JOINT)
    assert "\n" not in str(ended.value)
    assert "learner process 2 of 2 died" in str(ended.value)
    assert "shoal resume" in str(ended.value)
    lines = log_of(tmp_path / "run")
    assert sum("goes on by itself" in line for line in lines) == RESTARTS
    assert sum("stopped by LearnerLost" in line for line in lines) == 1
    monkeypatch.undo()
    assert training.resume(tmp_path / "run", quiet=True).state.env_steps >= 20 * UPDATE
