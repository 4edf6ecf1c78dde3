# SPDX-License-Identifier: Apache-2.0
"""Samplers within architectures: they change nothing where they may not, and lag by one where they work ahead."""

import numpy as np
import pytest

from architectures.small import run_small
from shoal.architectures import registry
from shoal.errors import ConfigError

IN_STEP = ("a2c", "ppo")
COLLECTING = (
    {"sampler": "parallel", "env_workers": 2},
    {"sampler": "central", "env_workers": 2, "inference_batch": 1},
    {"sampler": "alternating", "env_workers": 1},
)


def name_of(value):
    return value["sampler"] if isinstance(value, dict) else value


@pytest.mark.parametrize("fields", COLLECTING, ids=name_of)
@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_how_an_actor_collects_changes_no_update(engine, fields):
    plain = run_small("a2c", "inline", updates=4)
    other = run_small("a2c", engine, updates=4, **fields)
    # a matrix product over fewer rows rounds otherwise
    np.testing.assert_allclose(other.params, plain.params, rtol=1e-4, atol=1e-6)
    different = run_small("a2c", "inline", updates=4, seed=1)
    assert not np.allclose(different.params, plain.params, rtol=1e-2)


@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
@pytest.mark.parametrize("architecture", IN_STEP)
def test_ahead_every_unroll_but_the_first_lags_by_one(architecture, engine):
    run = run_small(architecture, engine, updates=8, sampler="async")
    lags = [np.unique(lag).tolist() for lag in run.lags]
    assert lags == [[0], *[[1]] * (len(lags) - 1)]
    assert len(lags) >= 8
    versions = [[max(0, k - 1)] * 2 for k in range(len(lags))]
    assert run.senders_versions == versions
    (row,) = [row for row in run.engine.rows() if row["message"] == "TRAJ"]
    assert row["lag_max"] == 1


@pytest.mark.parametrize("architecture", IN_STEP)
def test_ahead_repeats_on_every_engine_and_over_workers(architecture):
    settings = {"updates": 6, "sampler": "async"}
    inline = run_small(architecture, "inline", **settings)
    for engine, order, fields in (
        ("threads", "free", {}),
        ("threads", "fixed", {}),
        ("threads", "free", {"env_workers": 2}),
        ("processes", "fixed", {"env_workers": 1}),
    ):
        other = run_small(architecture, engine, order, **settings, **fields)
        np.testing.assert_array_equal(other.params, inline.params)
    in_step = run_small(architecture, "inline", updates=6)
    assert not np.array_equal(in_step.params, inline.params)
    assert not np.array_equal(run_small(architecture, "inline", **settings, seed=1).params, inline.params)


def refused(architecture="a2c", **fields) -> str:
    with pytest.raises(ConfigError) as caught:
        registry.load(architecture).Config(**{"envs_per_actor": 8, **fields})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"env_workers": 2, "inference_deadline_s": 0}, "inference_deadline_s=0 must be above 0 and finite"),
        ({"env_workers": 2, "inference_deadline_s": -0.1}, "inference_deadline_s=-0.1 must be above 0 and finite"),
        ({"env_workers": 2, "inference_deadline_s": float("nan")}, "inference_deadline_s=nan must be above 0"),
        ({"env_workers": 2, "inference_batch": 9}, "inference_batch=9 must be 0 (all) or at most the 8 environments"),
        ({"env_workers": 2, "inference_batch": -1}, "inference_batch=-1 must be 0 (all) or at most the 8"),
        ({"inference_batch": 4}, "are for central inference, and this actor's is serial; use --sampler central"),
        (
            {"sampler": "alternating", "env_workers": 2, "inference_deadline_s": 1.0},
            "are for central inference, and this actor's is alternating",
        ),
        ({"sampler": "parallel"}, "sampler='parallel' needs processes for its environments; raise --env-workers"),
        ({"sampler": "central"}, "sampler='central' needs processes for its environments; raise --env-workers"),
        ({"sampler": "alternating"}, "sampler='alternating' needs processes for its environments"),
        ({"sampler": "serial", "env_workers": 2}, "sampler='serial' steps environments itself, so env_workers=2"),
        ({"sampler": "alternating", "env_workers": 2, "envs_per_actor": 5}, "cannot halve the envs_per_actor=5"),
        ({"sampler": "alternating", "env_workers": 5}, "env_workers=5 are more than the 4 environments of a group"),
        ({"sampler": "parallel", "env_workers": 9}, "env_workers=9 are more than the 8 environments of an actor"),
        ({"sampler": "gpu"}, "sampler='gpu' is unknown; use auto or serial or parallel"),
        ({"reset": "never"}, "reset='never' is unknown; use mid_batch or wait"),
        ({"decorrelate": -1}, "decorrelate=-1 must be 0 or more"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(fields, line):
    assert line in refused(**fields)


def test_an_architecture_refuses_the_samplers_that_it_does_not_take():
    assert "sampler='async' is not for this architecture, which takes auto, serial, par" in refused(
        "impala", sampler="async"
    )
