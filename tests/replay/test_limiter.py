# SPDX-License-Identifier: Apache-2.0
"""Draws for additions: exactly so many, or within bounds."""

import numpy as np
import pytest

from shoal.replay.limiter import Limiter


def test_nothing_is_drawn_before_the_start():
    limiter = Limiter(8, start=100, ahead=None)
    assert not limiter.may_draw(99, 0, 1) and limiter.may_draw(100, 0, 1)
    assert not Limiter(8, start=0, ahead=None).may_draw(0, 0, 1)


@pytest.mark.parametrize("ratio", (0.25, 1, 8))
def test_sides_that_take_turns_keep_the_ratio(ratio):
    limiter = Limiter(ratio, start=64)
    added = drawn = 0
    for _ in range(1_000):
        added += 16
        while limiter.may_draw(added, drawn, 32):
            drawn += 32
    assert abs(drawn / (added - 64) / ratio - 1) < 0.01


@pytest.mark.parametrize("ahead, behind", ((64, 200), (0, 64), (500, 1_000)))
def test_bounds_hold_whoever_is_faster(ahead, behind):
    limiter, rng = Limiter(2, 50, ahead, behind), np.random.default_rng(0)
    for eagerness in (0.1, 0.5, 0.9):
        added = drawn = 0
        for _ in range(3_000):
            if rng.random() < eagerness:
                drawn += 32 * limiter.may_draw(added, drawn, 32)
            else:
                added += 10 * limiter.may_add(added, drawn)
            if added >= 50:
                assert -ahead <= limiter.owed(added, drawn) <= behind + 2 * 10
        assert abs(drawn / (added - 50) / 2 - 1) < 0.2


def test_without_bounds_nobody_waits():
    limiter = Limiter(1, 10, None, None)
    assert limiter.may_draw(10, 10_000, 32) and limiter.may_add(10_000, 0)
