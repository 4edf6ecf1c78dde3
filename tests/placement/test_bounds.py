# SPDX-License-Identifier: Apache-2.0
"""What bounds an environment: latency, compute or memory; and whether it lets go of Python's lock."""

import dataclasses

import numpy as np
import pytest

from placement.made_up import point, profile, trial
from placement.test_layouts import FILLS, FREE, KINDS, MOVES, PICTURES, PYTHON, SLEEPS
from shoal import envs
from shoal.placement import measure
from shoal.placement.advise import env_facts
from shoal.placement.bounds import bound_words, env_kind, fine_percent, moved_share, releases_lock
from shoal.placement.rounds import Rounds
from shoal.placement.verdict import advise_on


def test_an_observation_made_as_fast_as_copied_moves_all_that_memory_can():
    made = profile(env=PICTURES, step=(0.0, 1e-4), copy=point(10**6, 1e-4))
    assert moved_share(made) == pytest.approx(1.0)
    half = dataclasses.replace(made, copy=point(10**6, 5e-5))
    assert moved_share(half) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SLEEPS, "a step waits (bound by latency), lets go of Python's lock"),
        ({**SLEEPS, "gain": 1.0}, "a step waits (bound by latency), holds Python's lock"),
        (FILLS, "a step computes on all cores, may or may not hold Python's lock"),
        (FREE, "a step computes, lets go of Python's lock"),
        (PYTHON, "a step computes, holds Python's lock, and moves <0.1% of what memory can (10.0 GB/s)"),
        (MOVES, "a step is bound by memory, may or may not hold Python's lock, and moves 50% of what memory can"),
    ],
)
def test_one_line_says_what_bounds_it(made, words):
    assert bound_words(profile(**made)).startswith(words)


def test_threads_that_gain_share_no_bound_of_memory():
    """Two threads that move twice as much were not at what memory can, whatever a copy says."""
    assert env_kind(profile(**{**MOVES, "gain": 1.9})) == "threads"
    assert releases_lock(profile(**{**MOVES, "gain": 1.9})) is True


@pytest.mark.parametrize(("_kind", "made"), KINDS)
def test_every_kind_gets_advice(_kind, made):
    assert advise_on(profile(**made, trials=(trial(),))).reasons


def test_three_fifths_of_a_step_are_near_enough():
    """A picture in 0.4 ms is a quarter of what memory copies; in 0.6 ms it is a sixth."""
    assert env_kind(profile(**{**MOVES, "step": (0.0, 4e-4)})) == "memory"
    assert env_kind(profile(**{**MOVES, "step": (0.0, 6e-4)})) == "python"


def test_memory_is_a_reason_not_to_parallelise():
    runs = (trial(), trial("impala", engine="threads"))
    text = " ".join(advise_on(profile(**MOVES, trials=runs)).reasons)
    assert "Don't parallelise: observations take about what memory can move" in text


def test_shares_that_are_small():
    assert [fine_percent(share) for share in (0.431, 0.0012, 0.0001)] == ["43%", "0.1%", "<0.1%"]


def test_a_copy_and_a_toy_are_measured():
    factory = envs.resolve("toy:catch")
    with Rounds() as rounds:
        copied = measure.measure_copy(0.0, rounds)
        timings = measure.measure_env(factory, 8, 0.01, rounds)
    assert copied.size == measure.COPY_BYTES
    assert copied.calls == 4
    facts = env_facts(factory, {})
    made = profile(env=facts, env_step=timings.step, env_reset=timings.reset, copy=copied, env_beside=timings.beside)
    usual = next(p for p in timings.step.points if p.size == 8)
    written = 8 * 50 * np.dtype("float32").itemsize / timings.step.seconds(usual)
    assert moved_share(made) == pytest.approx(written / made.copy_bytes_per_s)
    assert "a step" in bound_words(made)
