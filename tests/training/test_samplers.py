# SPDX-License-Identifier: Apache-2.0
"""Training with each sampler: lost workers are told, what is to blame is named, what cannot be leaves no folder."""

import shutil

import numpy as np
import pytest

from envs.hostile import HOSTILE
from shoal import training
from shoal.errors import ConfigError, ShoalError
from training.runs import checkpoints, train

WAYS = {
    "parallel": {"sampler": "parallel", "env_workers": 2},
    "central": {"sampler": "central", "env_workers": 2, "inference_batch": 1},
    "alternating": {"sampler": "alternating", "env_workers": 2},
    "async": {"sampler": "async", "env_workers": 2},
}


@pytest.mark.parametrize(
    ("way", "engine"),
    [
        ("parallel", "threads"), ("parallel", "processes"), ("central", "threads"), ("alternating", "threads"),
        ("async", "threads"),
    ],
)  # fmt: skip
def test_training_goes_on_where_a_worker_dies(way, engine, tmp_path):
    fuse = tmp_path / "fuse"
    fuse.touch()
    result = train(
        tmp_path / "run", "a2c", "envs.pooled:Fragile", env_kwargs={"fuse": str(fuse)}, engine=engine,
        envs_per_actor=4, num_actors=1, env_steps=300, **WAYS[way],
    )  # fmt: skip
    last = result.metrics[-1]
    assert last["env_steps"] >= 300
    assert last["env_workers_restarted"] == 1
    assert last["episode_length_mean"] == 3
    (line,) = [line for line in (tmp_path / "run" / "log.txt").read_text().splitlines() if "lost: " in line]
    assert "envs.pooled:Fragile: environment " in line
    assert "ended with exit code 7; a new process opens new episodes" in line


@pytest.mark.parametrize("way", ["parallel", "central", "alternating"])
@pytest.mark.parametrize("name", ["ExitsTheProcess", "NeverReturns"])
def test_what_always_ends_or_stops_its_process_is_named(name, way, tmp_path):
    dies = next(hostile.dies for hostile in HOSTILE if hostile.__name__ == name)
    patience = 2.0 if dies == "hang" else 60.0
    settings = {"step_timeout": patience, "num_actors": 1, "envs_per_actor": 4, "env_steps": 60}
    with pytest.raises(ShoalError) as caught:
        train(tmp_path / "run", "a2c", f"envs.hostile:{name}", **settings, **WAYS[way])
    line = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in line
    assert f"envs.hostile:{name}: environment" in line  # or environments, where it got no core to begin with either
    assert ("did nothing for 2 s" if dies == "hang" else "ended its process 3 times") in line


def test_an_actor_that_waits_for_parallel_workers_is_not_stuck(tmp_path):
    slow = {"env": "toy:paced", "env_kwargs": {"step_s": 2.0}, "engine": "processes", "hang_seconds": 1.5}
    small = {"num_actors": 1, "envs_per_actor": 1, "unroll_length": 2, "env_steps": 2}
    result = train(tmp_path / "run", **slow, **small, sampler="parallel", env_workers=1)
    assert result.metrics[-1]["env_steps"] >= 2


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"env": lambda: None or HOSTILE[0](), **WAYS["parallel"]}, "cannot be found by name in another process"),
        (
            {"env": "CartPole-v1", "reset": "wait"},
            "reset=wait is not for CartPole-v1: its environments are stepped all",
        ),
        ({"env": "CartPole-v1", "decorrelate": 9}, "decorrelate=9 is not for CartPole-v1: its environments are step"),
        ({"env": "gymnax:CartPole-v1", **WAYS["parallel"]}, "cannot be stepped in workers"),
        ({"env": "gymnax:CartPole-v1", **WAYS["central"]}, "cannot be stepped in workers"),
        ({"env": "gymnax:CartPole-v1", "decorrelate": 3}, "decorrelate=3 is not for gymnax:CartPole-v1"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(fields, line, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train(tmp_path / "run", **{"envs_per_actor": 4, **fields})
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_network_that_no_name_leads_to_cannot_act_in_workers(tmp_path):
    class Mine:
        """Of no module."""

    with pytest.raises(ConfigError, match="network .* cannot be found by name in another process; put it into a modul"):
        train(tmp_path / "run", env="toy:catch", network=Mine, **WAYS["parallel"])


def test_environments_that_wait_for_each_other_learn_too(tmp_path):
    """Spread starts and rest in all of CartPole's forms that can be stepped apart."""
    for number, fields in enumerate(({"env": "toy:catch"}, {"env": "CartPole-v1", "env_workers": 2})):
        result = train(
            tmp_path / str(number), "ppo", reset="wait", decorrelate=7, envs_per_actor=2, num_actors=1, env_steps=400,
            **fields,
        )  # fmt: skip
        assert result.metrics[-1]["env_steps"] >= 400
        assert result.metrics[-1]["episodes"] > 0


@pytest.mark.parametrize("way", ["parallel", "async"])
def test_a_resumed_run_in_fixed_order_goes_on_exactly(way, tmp_path):
    settings = {"order": "fixed", "env": "toy:catch", "num_actors": 2, "envs_per_actor": 4, "env_steps": 800}
    whole = train(tmp_path / "whole", "a2c", engine="threads", **settings, **WAYS[way])
    copy = shutil.copytree(whole.run_dir, tmp_path / "copy")
    shutil.rmtree(checkpoints(copy)[-1])
    resumed = training.resume(copy, quiet=True)
    np.testing.assert_array_equal(resumed.state.params, whole.state.params)
    other = train(tmp_path / "other", "a2c", engine="threads", seed=7, **settings, **WAYS[way])
    assert not np.array_equal(other.state.params, whole.state.params)
