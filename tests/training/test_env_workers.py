# SPDX-License-Identifier: Apache-2.0
"""Training with environments in workers: the same on every engine, and it goes on where one of them dies."""

import numpy as np
import pytest

from envs.hostile import HOSTILE
from shoal.errors import ConfigError, ShoalError
from training.runs import train

ENGINES = ["inline", "threads", "processes"]
DEADLY = [hostile for hostile in HOSTILE if hostile.dies == "hang" or hostile.dies.startswith(("exit", "signal"))]


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_change_nothing_in_fixed_order(engine, tmp_path):
    common = {"order": "fixed", "env": "toy:catch", "num_actors": 2, "envs_per_actor": 3, "env_steps": 200}
    plain = train(tmp_path / "plain", engine="inline", **common)
    pooled = train(tmp_path / "pooled", engine=engine, env_workers=2, **common)
    np.testing.assert_array_equal(pooled.state.params, plain.state.params)
    assert pooled.metrics[-1]["episodes"] == plain.metrics[-1]["episodes"] > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_training_goes_on_where_a_worker_dies(engine, tmp_path):
    fuse = tmp_path / "fuse"
    fuse.touch()
    result = train(
        tmp_path / "run", "impala", "envs.pooled:Fragile", env_kwargs={"fuse": str(fuse)}, engine=engine,
        env_workers=2, envs_per_actor=3, num_actors=1, env_steps=300,
    )  # fmt: skip
    last = result.metrics[-1]
    assert last["env_steps"] >= 300
    assert last["env_workers_restarted"] == 1
    assert last["episode_length_mean"] == 3  # what was lost was no episode
    assert last["episode_return_mean"] == 3
    lines = [line for line in (tmp_path / "run" / "log.txt").read_text().splitlines() if "lost: " in line]
    assert len(lines) == 1
    assert "envs.pooled:Fragile: environment " in lines[0]
    assert "step 5) lost: process" in lines[0] or "step 6) lost: process" in lines[0]
    assert "ended with exit code 7; a new process opens new episodes" in lines[0]


@pytest.mark.parametrize("hostile", DEADLY, ids=lambda hostile: hostile.__name__)
def test_what_always_ends_or_stops_its_process_is_named(hostile, tmp_path):
    patience = 2.0 if hostile.dies == "hang" else 60.0
    settings = {"env_workers": 2, "step_timeout": patience, "num_actors": 1, "envs_per_actor": 2, "env_steps": 60}
    env = f"envs.hostile:{hostile.__name__}"
    with pytest.raises(ShoalError) as caught:
        train(tmp_path / "run", "impala", env, **settings)
    line = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in line
    assert f"{env}: environment" in line  # or environments, where it got no core to begin with either
    assert ("did nothing for 2 s" if hostile.dies == "hang" else "ended its process 3 times") in line


def test_an_actor_that_waits_for_its_workers_is_not_stuck(tmp_path):
    slow = {"env": "toy:paced", "env_kwargs": {"step_s": 2.0}, "engine": "processes", "hang_seconds": 1.5}
    small = {"num_actors": 1, "envs_per_actor": 1, "unroll_length": 2, "env_steps": 2}
    assert train(tmp_path / "pooled", **slow, **small, env_workers=1).metrics[-1]["env_steps"] >= 2
    for_ever = {**slow, "env_kwargs": {"step_s": 100.0}}
    with pytest.raises(ShoalError, match=r"did nothing for 1\.5 s"):
        train(tmp_path / "plain", **for_ever, **small)


def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(ConfigError, match="env_workers=9 are more than the 2 environments"):
        train(tmp_path / "run", env_workers=9)
    with pytest.raises(ConfigError, match="or set env_workers to 0"):
        train(tmp_path / "run", env=lambda: None or HOSTILE[0](), env_workers=1)
    assert not (tmp_path / "run").exists()
