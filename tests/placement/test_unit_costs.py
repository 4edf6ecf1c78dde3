# SPDX-License-Identifier: Apache-2.0
"""What a profile says a phase costs: idle time, cores, the interpreter's share, and how much it differs."""

import dataclasses

import numpy as np
import pytest

from placement.made_up import beside, curve, point, profile, trace
from shoal.agents.lessons import CriticLesson, PolicyLesson
from shoal.architectures import presets
from shoal.engines import Work
from shoal.placement.twins import twin_trajectory
from shoal.placement.unit_costs import (
    Uneven,
    best_inference,
    by_episodes,
    draws,
    episode_lengths,
    handing_of,
    host_curve,
    in_turn,
    served_work,
    share_in_python,
    spread_of,
    update_of,
    work_at,
)


def test_a_step_that_waits_is_idle_first_and_no_faster_on_a_faster_core():
    half_asleep = curve(0.0, 1e-3, (1, 8), cores=0.5)
    assert work_at(half_asleep, 8, 1.0, 0.0) == pytest.approx(Work(8e-3, idle=4e-3, cores=1.0))
    assert work_at(half_asleep, 8, 2.0, 0.0) == pytest.approx(Work(6e-3, idle=4e-3, cores=1.0))


def test_a_step_on_several_cores_wants_them():
    assert work_at(curve(0.0, 1e-3, (1, 8), cores=3.0), 8, 1.0, 0.0) == pytest.approx(Work(8e-3, cores=3.0))


@pytest.mark.parametrize(("gain", "share"), [(2.0, 0.0), (1.95, 0.0), (1.6, 0.625), (1.0, 1.0), (0.9, 1.0)])
def test_the_share_in_python_is_what_two_threads_gain(gain, share):
    assert share_in_python(profile(gain=gain)) == pytest.approx(share)


def test_several_works_in_a_row_add_up():
    one, other = Work(2.0, idle=1.0, cores=1.0, python=1.0), Work(3.0, cores=2.0)
    both = in_turn(10, one, other)
    assert both == pytest.approx(Work(50.0, idle=10.0, cores=(1 + 6) / 4, python=0.25))


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_spread_is_found_again(sigma):
    drawn = np.exp(sigma * np.random.default_rng(0).standard_normal(200_000))
    seen = dataclasses.replace(point(1, 1.0), median_s=float(np.median(drawn)), p99_s=float(np.quantile(drawn, 0.99)))
    assert spread_of(seen) == pytest.approx(sigma, rel=0.02)
    assert spread_of(point(1, 1.0)) == 0.0


def test_uneven_work_has_the_mean_of_even_work_and_sums_differ_less():
    uneven, work = Uneven(0.8, 0), Work(2.0, idle=1.0)
    single = [uneven.once(work).seconds for _ in range(40_000)]
    together = [uneven.summed(in_turn(25, work), 25).seconds for _ in range(40_000)]
    assert np.mean(single) == pytest.approx(2.0, rel=0.02)
    assert np.mean(together) == pytest.approx(50.0, rel=0.02)
    assert np.std(together) / 50 == pytest.approx(np.std(single) / 2 / 5, rel=0.05)
    assert [Uneven(0.8, 0).once(work) for _ in range(2)] == [Uneven(0.8, 0).once(work) for _ in range(2)]
    assert Uneven(0.8, 0).once(work) != Uneven(0.8, 1).once(work)


@pytest.mark.parametrize(("valid", "steps"), [(1.0, 10**9), (50 / 51, 50), (0.5, 1)])
def test_episodes_are_as_long_as_their_resets_are_rare(valid, steps):
    assert episode_lengths(profile(valid_frac=valid)) == (steps, 0.0)


def test_handing_over_is_what_two_threads_lose_beyond_taking_turns():
    turns = dataclasses.replace(profile(gain=1.0), acting_beside=beside(1.0))
    assert handing_of(turns, 8) == pytest.approx(0.0, abs=1e-12)
    slow = dataclasses.replace(beside(1.0), together_per_s=50.0)
    slowed = dataclasses.replace(turns, acting_beside=slow)
    step = best_inference(slowed, 8) + slowed.env_step.at(8)
    assert handing_of(slowed, 8) == pytest.approx(step)  # two steps of both instead of one
    assert handing_of(dataclasses.replace(turns, acting_beside=beside(2.0)), 8) == 0.0  # they hold nothing
    asleep = dataclasses.replace(slow, alone_cores=0.01)
    assert handing_of(dataclasses.replace(turns, acting_beside=asleep), 8) == 0.0


def test_threads_that_compute_gain_no_more_than_cores():
    """A processor's pace differs between two moments."""
    faster = dataclasses.replace(beside(1.0), together_per_s=170.0)
    assert faster.gain == 1.0
    assert dataclasses.replace(faster, cores=2.0).gain == pytest.approx(1.7)
    assert dataclasses.replace(faster, alone_cores=0.1).gain == pytest.approx(1.7)  # asleep: nothing to share


def test_the_update_of_a_preset_is_the_curve_and_minibatches_cost_the_fixed_part_each():
    made, seen = profile(), curve(1e-3, 1e-6, (256, 1024))
    preset = presets.preset("ppo", made.env.spec())
    assert update_of(made, "ppo", seen, preset, 1024) == pytest.approx(2.024e-3)
    more = dataclasses.replace(preset, minibatches=2 * preset.minibatches, epochs=3 * preset.epochs)
    assert update_of(made, "ppo", seen, more, 1024) == pytest.approx(3 * 3.024e-3)


def test_a_server_pays_for_rows_once_and_for_every_request():
    made = profile()
    config = dataclasses.replace(presets.preset("seed", made.env.spec()), num_actors=4, envs_per_actor=2)
    seen = trace("seed")
    point = presets.preset("seed", made.env.spec())
    asked, rows = point.requests, point.requests * point.envs_per_actor
    each = (seen.phases["act"].at(rows) - host_curve(made, rows)[1].at(rows)) / asked
    assert each > 0
    for requests in (1, 4):
        alone = host_curve(made, 2 * requests)[1].at(2 * requests)
        work = served_work(made, seen, requests, config, 1.0)
        assert work.seconds == pytest.approx(alone + requests * each)


def test_phases_over_whole_episodes_cost_what_the_longest_makes_them():
    seen = curve(1e-3, 1e-6, (128, 1024))
    made = twin_trajectory(profile().env.spec(), 50, 4)
    for given in (made, PolicyLesson(made, ()), CriticLesson(made)):
        assert by_episodes(seen, 1.0, 0.1, None, given).seconds == pytest.approx(1.2e-3)


def test_numbers_drawn_in_blocks_are_those_drawn_one_by_one():
    rng, drawn = np.random.default_rng(3), draws(3)
    assert [next(drawn) for _ in range(600)] == [rng.standard_normal() for _ in range(600)]
