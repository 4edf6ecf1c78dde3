# SPDX-License-Identifier: Apache-2.0
"""Several learners within a whole system: what the ledger says, who is waited for, and what cannot be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from architectures.small import config_of, parts_of, run_small
from shoal.architectures import registry
from shoal.architectures.optimisation import on_one_device, prepare_devices
from shoal.engines import make_engine
from shoal.errors import ConfigError
from shoal.placement.flow import flow_of

TESTS = Path(__file__).resolve().parent.parent
LOCK_STEP = ("a2c", "ppo")


def rows_of(engine, message):
    return [row for row in engine.rows() if row["message"] == message]


@pytest.mark.evidence("fingerprint", "a2c/optimisation=sync")
@pytest.mark.evidence("fingerprint", "ppo/optimisation=sync")
@pytest.mark.parametrize("architecture", LOCK_STEP)
def test_sums_of_gradients_over_devices_are_in_the_ledger(architecture):
    run = run_small(architecture, "threads", updates=5, learners=2, learner_devices=2)
    (row,) = rows_of(run.engine, "GRAD")
    steps = run.states[-1].updates
    assert (row["source"], row["target"], row["via"]) == ("learner", "learner", "device")
    assert (row["count"], row["bytes"]) == (2 * steps, 2 * steps * run.params.nbytes)
    assert max(lag.max() for lag in run.lags) == 0
    alone = run_small(architecture, "threads", updates=5, learners=2, learner_devices=1)
    assert rows_of(alone.engine, "GRAD") == []
    np.testing.assert_allclose(run.params, alone.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", LOCK_STEP)
def test_the_flow_of_several_learners_shows_what_they_sum(architecture):
    rows = {(row["message"], row["source"], row["target"]): row for row in flow_of(architecture, learners=4)}
    grad, traj = rows["GRAD", "learner", "learner"], rows["TRAJ", "actor", "learner"]
    assert grad["via"] == "device"
    assert grad["count"] == 4 * traj["count"] / 2
    assert not any(message == "GRAD" for message, *_ in {(r["message"],) for r in flow_of(architecture)})


def test_weak_scaling_gives_each_learner_its_actors():
    config = registry.load("ppo").Config(num_actors=2, envs_per_actor=3, learners=4, scaling="weak")
    assert (config.all_actors, config.num_envs, config.learner_envs) == (8, 24, 6)
    strong = registry.load("ppo").Config(num_actors=2, envs_per_actor=2, learners=4)
    assert (strong.all_actors, strong.num_envs, strong.learner_envs) == (2, 4, 1)
    run = run_small("a2c", "inline", updates=4, learners=2, learner_devices=1, scaling="weak")
    assert all(len(versions) == 4 for versions in run.senders_versions)


@pytest.mark.parametrize("architecture", LOCK_STEP)
def test_updates_go_on_without_the_slowest(architecture):
    """The third actor takes 60 ms for what takes the others 6: its trajectories come late, are dropped and counted."""
    fields = {"num_actors": 3, "envs_per_actor": 2, "drop_slowest": 1, "sampler": "serial"}
    engine = make_engine("simulated", slow={"actor/2": 10.0}, costs={"env_step": 0.001, "*": 0.0})
    config = config_of(architecture, 12, **fields)
    run_of = registry.load(architecture).run
    seen = []

    def visit(state, batch, metrics):
        seen.append([int(item.version[0]) == state.version - 1 for item in batch])
        return state

    engine.run(run_of, config, parts_of(architecture, config), None, visit)
    assert all(len(fresh) == 2 and all(fresh) for fresh in seen)
    assert engine.drops()["TRAJ"] >= 1
    waited = make_engine("simulated", slow={"actor/2": 10.0}, costs={"env_step": 0.001, "*": 0.0})
    config = config_of(architecture, 12, **{**fields, "drop_slowest": 0})
    waited.run(run_of, config, parts_of(architecture, config), None, lambda state, *_: state)
    assert "TRAJ" not in waited.drops()
    assert waited.now() > 5 * engine.now()


REFUSED = [
    ({"learners": 0}, "learners=0 must be above 0"),
    ({"learners": 3, "envs_per_actor": 8}, "learners=3 cannot share the 8 environments"),
    ({"learners": 4, "learner_devices": 3}, "learners=4 cannot be spread evenly"),
    ({"learners": 2, "learner_devices": 4}, "make --learners a multiple of 4"),
    ({"learners": 2, "learner_devices": -1}, "learner_devices=-1 must be 0 or more"),
    ({"learners": 4, "learner_processes": 3}, "learner_processes=3"),
    ({"learners": 2, "learner_processes": 2}, "learner_processes=2 need as many actors each"),
    ({"drop_slowest": 1}, "drop_slowest=1 leaves none of 1 actors"),
    ({"drop_slowest": 1, "num_actors": 4, "sampler": "async"}, "drop_slowest=1 drops what comes late"),
    ({"optimisation": "sometimes"}, "optimisation='sometimes' is unknown; use sync or async or async_skip"),
    ({"scaling": "big"}, "scaling='big' is unknown; use strong or weak"),
]


@pytest.mark.parametrize("architecture", LOCK_STEP)
@pytest.mark.parametrize(("fields", "said"), REFUSED, ids=lambda x: "-".join(x) if isinstance(x, dict) else "")
def test_learners_that_cannot_be_are_refused_in_one_line(architecture, fields, said):
    with pytest.raises(ConfigError) as refused:
        registry.load(architecture).Config(**fields)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ppo_cuts_minibatches_from_a_learners_own_rows():
    fields = {"envs_per_actor": 2, "unroll_length": 4, "minibatches": 8}
    registry.load("ppo").Config(**fields)
    with pytest.raises(ConfigError, match="more than the 4 rows of a learner's batch"):
        registry.load("ppo").Config(**fields, learners=2)


def test_more_devices_than_make_sense_are_refused_before_jax_starts():
    with pytest.raises(ConfigError, match="learner_devices=1000 are more than 4 virtual devices for each"):
        prepare_devices({"learners": "1000", "learner_devices": 1000})
    prepare_devices({"learners": "many", "learner_devices": None})  # whoever reads the fields says so
    config = registry.load("ppo").Config(learners=4, learner_devices=4)
    assert on_one_device(config).learner_devices == 1


@pytest.mark.slow
def test_ten_thousand_sums_beside_threads_that_act_do_not_hang():
    command = [sys.executable, "-m", "learners.beside", "10000"]
    ran = subprocess.run(
        command, cwd=TESTS, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=600,
        check=True,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert (found["updates"], found["devices"], found["all"]) == (10_000, 2, 3)
    assert min(found["acted"]) > 10_000
