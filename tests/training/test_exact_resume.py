# SPDX-License-Identifier: Apache-2.0
"""A run in fixed order that was interrupted and resumed is the run that was never interrupted, bit for bit."""

import shutil

import jax
import numpy as np
import pytest

import shoal
from shoal.architectures import registry
from shoal.errors import CheckpointError
from shoal.learners.base import LearnerState
from shoal.records import checkpoint
from shoal.records.flow import read_flow
from shoal.training.states import pack, unpack
from training.runs import checkpoints, everything_in, train, untimed_rows

CASES = [
    ("a2c", "inline"), ("ppo", "inline"), ("impala", "inline"), ("ppo", "threads"), ("impala", "threads"),
    ("appo", "threads"), ("seed", "threads"), ("a3c", "inline"), ("a3c", "threads"),
    ("dqn", "inline"), ("rainbow", "threads"),
]  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def whole(request, tmp_path_factory):
    """A run in fixed order that nothing interrupted, with its checkpoints at three quarters of the way or more."""
    architecture, engine = request.param
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(folder, architecture, engine=engine, order="fixed", num_actors=2, env_steps=800)


def interrupted(whole, folder, at=-2):
    """A copy of the run as it was when it had saved its checkpoint number `at`."""
    copy = shutil.copytree(whole.run_dir, folder)
    for path in checkpoints(copy)[at + 1 :] if at != -1 else []:
        shutil.rmtree(path)
    return copy


def test_a_resumed_run_is_the_uninterrupted_one(whole, tmp_path):
    copy = interrupted(whole, tmp_path / "copy")
    resumed = shoal.resume(copy, quiet=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)
    assert untimed_rows(copy) == untimed_rows(whole.run_dir)
    last, expected = (checkpoint.load(checkpoints(folder)[-1]).meta for folder in (copy, whole.run_dir))
    for meta in (last, expected):
        meta["progress"].pop("wall_s")
    assert last == expected
    assert last["level"] == "exact"


def test_from_any_segment(whole, tmp_path):
    copy = interrupted(whole, tmp_path / "copy", at=-3)
    resumed = shoal.resume(copy, quiet=True)
    np.testing.assert_array_equal(resumed.state.params, whole.state.params)
    assert untimed_rows(copy) == untimed_rows(whole.run_dir)


def test_memory_and_running_statistics_go_on_exactly(tmp_path):
    settings = {"network": "gru", "normalise_obs": True, "normalise_reward": True, "order": "fixed", "num_actors": 2}
    whole = train(tmp_path / "run", "ppo", "toy:memory", **settings)
    resumed = shoal.resume(interrupted(whole, tmp_path / "copy"), quiet=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)


def test_without_its_memory_s_snapshot_a_run_says_that_it_is_another_one(tmp_path, capsys):
    whole = train(tmp_path / "run", "dqn", order="fixed", env_steps=800)
    copy = interrupted(whole, tmp_path / "copy")
    shutil.rmtree(copy / "replay")
    resumed = shoal.resume(copy, quiet=True)
    assert not np.array_equal(resumed.state.params, whole.state.params)
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no snapshot of the replay memory, which begins empty" in line


def test_without_the_optimiser_s_moments_it_is_another_run(whole, tmp_path):
    copy = interrupted(whole, tmp_path / "copy")
    (*_, newest) = checkpoints(copy)
    saved = checkpoint.load(newest)
    shutil.rmtree(newest)
    forgotten = {k: v if k == "params" else np.zeros_like(v) for k, v in saved.arrays.items()}
    checkpoint.save(copy / "checkpoints", saved.step, forgotten, saved.meta)
    resumed = shoal.resume(copy, quiet=True)
    assert not np.array_equal(resumed.state.params, whole.state.params)


def test_segments_are_in_the_flow(whole):
    segments = read_flow(whole.run_dir / "flow.json")["segments"]
    assert [segment["from_env_steps"] for segment in segments][0] == 0
    assert len(segments) == 4
    for before, after in zip(segments, segments[1:], strict=False):
        assert after["from_env_steps"] == before["to_env_steps"]
    assert segments[-1]["to_env_steps"] == whole.state.env_steps


def test_a_checkpoint_within_a_segment_says_that_it_is_not_exact(tmp_path, capsys):
    result = train(tmp_path / "run", order="fixed", env_steps=10_000, stop_minutes=1e-9)
    saved = checkpoint.load_latest(result.run_dir / "checkpoints")
    assert saved.meta["level"] == "statistical"
    assert capsys.readouterr().err == ""
    shoal.resume(result.run_dir, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "within a segment" in line
    assert line in (result.run_dir / "log.txt").read_text()


def test_free_order_is_statistical(tmp_path):
    result = train(tmp_path / "run", env_steps=100)
    assert checkpoint.load_latest(result.run_dir / "checkpoints").meta["level"] == "statistical"


def test_updates_longer_than_a_segment(tmp_path):
    settings = {"order": "fixed", "env_steps": 100, "envs_per_actor": 4, "unroll_length": 16}
    whole = train(tmp_path / "run", **settings)
    copy = interrupted(whole, tmp_path / "copy")
    assert len(checkpoints(whole.run_dir)) == 2  # 64 steps an update
    np.testing.assert_array_equal(shoal.resume(copy, quiet=True).state.params, whole.state.params)


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop", "sgd"])
def test_pack_and_unpack(optimiser):
    module = registry.load("a2c")
    from agents.made import DISCRETE, make_agent, make_trajectory

    agent = make_agent("a2c", DISCRETE)
    learner = module.make_learner(module.Config(optimiser=optimiser), agent)
    state, _ = learner.update(learner.init(0), [make_trajectory(agent, DISCRETE, agent.init(0))])
    arrays = pack(state)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    meta = {"updates": state.updates, "env_steps": state.env_steps, "version": state.version}
    restored = unpack(arrays, meta, learner.init(1))
    assert isinstance(restored, LearnerState)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(old, new)
        assert getattr(old, "dtype", None) == getattr(new, "dtype", None)
    for spoilt in (arrays | {"params": arrays["params"][1:]}, {k: v for k, v in arrays.items() if k != "params"}):
        with pytest.raises(CheckpointError, match="for params"):
            unpack(spoilt, meta, learner.init(1))


@pytest.mark.parametrize("change", [{"network": "agents.made:Narrow"}, {"optimiser": "sgd"}])
def test_another_network_or_optimiser_is_refused_and_nothing_is_cut(change, tmp_path):
    result = train(tmp_path / "run", env_steps=300, optimiser="rmsprop" if "optimiser" in change else "adam")
    newest = checkpoints(result.run_dir)[-1]
    with open(result.run_dir / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 100000}\n')
    before = everything_in(result.run_dir)
    if "optimiser" in change:
        arrays = dict(checkpoint.load(newest).arrays)
        assert any(name.startswith("optimiser/") for name in arrays)
        change = {"optimiser": "adam"}
    with pytest.raises(CheckpointError, match="resume with the network and optimiser"):
        shoal.resume(result.run_dir, quiet=True, **change)
    assert everything_in(result.run_dir) == before
