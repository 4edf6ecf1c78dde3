# SPDX-License-Identifier: Apache-2.0
"""SEED: inference happens in batches, and no unroll mixes two runs of an actor, whoever is killed."""

import os
import signal

import numpy as np
import pytest

from architectures.small import Run, config_of, parts_of
from shoal import training
from shoal.architectures import seed
from shoal.engines import make_engine
from shoal.records.metrics import read_rows

ENV = "architectures.lives:Lives"


class Killing(Run):
    """Kills a worker after some updates, and keeps every trajectory."""

    def __init__(self, role):
        super().__init__(make_engine("processes"))
        self.role, self.batches, self.victim = role, [], None

    def visit(self, state, batch, metrics):
        self.batches += batch
        if len(self.states) == 4:
            self.victim = next(
                place["pid"] for place in self.engine.pids if (place["role"], place["index"]) == (self.role, 0)
            )
            os.kill(self.victim, signal.SIGKILL)
        if self.victim is not None and len(self.batches) >= 60 and self.all_were_seen():
            self.engine.stop("seen")
        return super().visit(state, batch, metrics)

    def actors(self, epoch=None):
        return {p["pid"] for p in self.engine.pids if p["role"] == "actor" and epoch in (None, p["epoch"])}

    def seen(self):
        """Processes whose unrolls came, in that order."""
        return [int(trajectory.obs[0, 0, 0]) for trajectory in self.batches]

    def all_were_seen(self):
        """Whether the loss is in the books, and all actors that there should be have handed over unrolls."""
        expected = 2 + (self.role == "actor")
        return bool(self.engine.losses()) and len(self.actors()) == expected and set(self.seen()) == self.actors()


def unbroken(obs):
    """Whether each environment's rows [T+1, B, 3] are one process's, one after the other."""
    return (obs[:, :, 0] == obs[:1, :, 0]).all() and (np.diff(obs[:, :, 1], axis=0) == 1).all()


@pytest.mark.evidence("fingerprint", "seed")
@pytest.mark.parametrize("role", ["actor", "inference"])
def test_no_unroll_mixes_two_runs_after_a_kill(role):
    config = config_of("seed", 10**6, unroll_length=5, batch_trajectories=1)
    run = Killing(role)
    run.engine.run(seed.run, config, parts_of("seed", config, ENV), None, run.visit)
    (loss,) = run.engine.losses()
    assert f"/seed {role}/0" in loss
    assert f"process {run.victim} of" in loss
    assert all(unbroken(trajectory.obs) for trajectory in run.batches)
    assert not unbroken(np.concatenate([trajectory.obs for trajectory in run.batches[:2]]))  # what it would look like
    assert set(run.seen()) == run.actors()
    assert len(run.actors()) == 2 + (role == "actor")
    if role == "actor":
        (new,) = run.actors(epoch=1)
        first = run.seen().index(new)
        assert first > 4
        assert run.victim not in run.seen()[first:]
    lengths = np.concatenate([trajectory.episode_length.ravel() for trajectory in run.batches])
    assert set(lengths) == {0, 7}  # an episode that was seen in part only is not counted


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_inference_answers_several_actors_at_once(engine, tmp_path):
    fields = {"num_actors": 3, "envs_per_actor": 2, "unroll_length": 8, "env_steps": 3000}
    training.train("seed", "toy:catch", engine=engine, run_dir=tmp_path / "run", quiet=True, **fields)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert np.mean([row["inference_batch_mean"] for row in rows if "inference_batch_mean" in row]) > 1
    counts = {name: sum(row.get(name, 0) for row in rows) for row in rows for name in row if "inference_batch/" in name}
    assert set(counts) <= {"inference_batch/1", "inference_batch/2", "inference_batch/3"}


@pytest.mark.parametrize(("batch", "sizes"), [(0, {2}), (2, {1})])
def test_environments_in_a_batch_are_a_setting(batch, sizes):
    config = config_of("seed", 8, inference_batch=batch)
    engine, noted = make_engine("inline"), []
    engine.on_note = lambda **metrics: noted.extend(metrics.get("inference_batches", []))
    engine.run(seed.run, config, parts_of("seed", config))
    assert set(noted) == sizes
