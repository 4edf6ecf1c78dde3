# SPDX-License-Identifier: Apache-2.0
"""Losses that are too unlike those before."""

import numpy as np

from shoal.learners.guards import WARM_UP, OutlierGuard


def losses(count, seed=0):
    return np.abs(np.random.default_rng(seed).normal(1.0, 0.2, count)).tolist()


def test_a_wild_loss_is_refused_and_its_neighbours_are_not():
    guard = OutlierGuard(6.0)
    usual = losses(200)
    judged = [guard.admits(loss) for loss in [*usual[:100], 1000.0, *usual[100:], 1000.0]]
    assert [i for i, admitted in enumerate(judged) if not admitted] == [100, 201]
    assert guard.dropped == 2


def test_a_loss_that_has_risen_for_good_is_let_through_after_a_while():
    guard = OutlierGuard(6.0)
    for loss in losses(100):
        guard.admits(loss)
    judged = [guard.admits(10 * loss) for loss in losses(300, seed=1)]
    assert not judged[0]
    assert all(judged[-100:])


def test_nothing_is_refused_before_anything_is_known_and_no_number_is_not_judged():
    guard = OutlierGuard(3.0)
    assert all(guard.admits(10.0**i) for i in range(WARM_UP))
    assert guard.admits(float("nan"))
    assert OutlierGuard(3.0).admits(float("inf"))
