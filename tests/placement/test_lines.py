# SPDX-License-Identifier: Apache-2.0
"""Fits give back what they were made of; break-even is where both cost the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.placement.lines import Line, break_even, fit_line

SIZES = (1, 4, 16, 64, 256)
SECONDS = st.floats(1e-7, 1.0)


@given(fixed=SECONDS, per_item=SECONDS)
def test_points_on_a_line_give_it_back(fixed, per_item):
    line = fit_line([(size, fixed + per_item * size) for size in SIZES])
    largest = fixed + per_item * SIZES[-1]
    assert line.fixed_s == pytest.approx(fixed, rel=1e-4, abs=1e-9 * largest)
    assert line.per_item_s == pytest.approx(per_item, rel=1e-4, abs=1e-9 * largest)
    assert line.error < 1e-6


def test_noise_of_five_percent_moves_the_line_little():
    generator = np.random.default_rng(0)
    for _ in range(20):
        noise = 1 + 0.05 * generator.uniform(-1, 1, len(SIZES))
        line = fit_line([(s, (1e-4 + 1e-5 * s) * e) for s, e in zip(SIZES, noise, strict=True)])
        assert line.fixed_s == pytest.approx(1e-4, rel=0.2)
        assert line.per_item_s == pytest.approx(1e-5, rel=0.2)
        assert line.error <= 0.12


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=5))
def test_neither_part_is_ever_negative(seconds):
    line = fit_line(list(zip(SIZES, seconds, strict=False)))
    assert line.fixed_s >= 0
    assert line.per_item_s >= 0


def test_one_size_counts_as_proportional():
    assert fit_line([(8, 0.4)]) == Line(0.0, pytest.approx(0.05), pytest.approx(0.0))


def test_where_half_of_the_cost_is_fixed():
    assert Line(1e-3, 1e-5, 0.0).half_size == pytest.approx(100)
    assert Line(1e-3, 0.0, 0.0).half_size == float("inf")


@given(fixed=SECONDS, more=SECONDS, per_item=SECONDS, less=st.floats(0.01, 0.99))
def test_both_cost_the_same_at_break_even(fixed, more, per_item, less):
    here, there = Line(fixed, per_item, 0.0), Line(fixed + more, per_item * less, 0.0)
    turn = break_even(here, there)
    assert turn is not None
    assert here.at(turn) == pytest.approx(there.at(turn), rel=1e-6)
    assert there.at(2 * turn + 1) < here.at(2 * turn + 1)


def test_break_even_always_and_never():
    assert break_even(Line(1e-3, 1e-4, 0.0), Line(1e-4, 1e-5, 0.0)) == 0.0
    assert break_even(Line(1e-3, 1e-4, 0.0), Line(1e-2, 2e-4, 0.0)) is None
    assert break_even(Line(1e-3, 1e-4, 0.0), Line(1e-4, 1e-4, 0.0)) == 0.0
