# SPDX-License-Identifier: Apache-2.0
"""Workers that act for themselves, in virtual time: the largest share is what an unroll takes."""

import dataclasses

import pytest

from placement.made_up import profile
from shoal.architectures import presets
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import predict

MANY, TWO = MachineFacts(name="many", cores=1_000), MachineFacts(name="two", cores=2)
STEP_S, ACT_S = 1e-3, 10e-6
MADE = profile(step=(0.0, STEP_S), inference={"numpy": (ACT_S, 1e-6)}, update={"cpu": (1e-9, 1e-12)})
LENGTH = 32


def seconds(machine=MANY, made=MADE, envs=8, **fields):
    """Of an unroll of the only actor, by A2C, whose learner takes no time."""
    preset = presets.preset("a2c", made.env.spec())
    config = dataclasses.replace(preset, num_actors=1, envs_per_actor=envs, unroll_length=LENGTH, **fields)
    return envs * LENGTH / predict(made, "a2c", machine, config).env_steps_per_s


@pytest.mark.parametrize(("workers", "share"), [(1, 8), (2, 4), (3, 3), (8, 1)])
def test_an_unroll_takes_what_the_largest_share_takes(workers, share):
    took = seconds(sampler="parallel", env_workers=workers)
    assert took == pytest.approx(LENGTH * (share * STEP_S + ACT_S + share * 1e-6), rel=0.02)


def test_one_worker_is_an_actor_by_itself():
    assert seconds(sampler="parallel", env_workers=1) == pytest.approx(seconds(), rel=0.02)


def test_workers_share_the_cores():
    eight = seconds(TWO, sampler="parallel", env_workers=8)
    assert eight == pytest.approx(4 * seconds(MANY, sampler="parallel", env_workers=8), rel=0.02)
    assert eight == pytest.approx(seconds(TWO, sampler="parallel", env_workers=2), rel=0.05)


def test_sleepers_need_no_cores():
    asleep = profile(step=(0.0, 20e-3), step_cores=0.0, gain=2.0, update={"cpu": (1e-9, 1e-12)})
    few, many = (seconds(TWO, asleep, sampler="parallel", env_workers=workers) for workers in (1, 8))
    assert few == pytest.approx(8 * many, rel=0.05)


def test_acting_beside_stepping_beats_acting_for_all_in_between():
    """What central inference spends between steps, workers that act spend at the same time."""
    central, parallel = (seconds(sampler=way, env_workers=8) for way in ("central", "parallel"))
    assert parallel < central
