# SPDX-License-Identifier: Apache-2.0
"""Episodes of environments that do nothing: as long as measured ones, and as different from one another."""

import numpy as np
import pytest

from shoal.placement.episodes import Course, Lengths, spread_of_lengths


def played(lengths, steps, first_index=0, num_envs=4, restarts=1):
    """(terminated, valid) [T, B] of so many steps."""
    course, slots = Course(lengths, first_index, num_envs), np.arange(num_envs)
    for _ in range(restarts):
        course.restart()
    rows = [course.rows(slots, np.full(num_envs, step)) for step in range(steps)]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def lengths_of(terminated, valid):
    """Steps of all whole episodes of one environment each, but the first."""
    found = []
    for env in range(terminated.shape[1]):
        ends = np.flatnonzero(terminated[:, env])
        found += [int(valid[a + 1 : b + 1, env].sum()) for a, b in zip(ends, ends[1:], strict=False)]
    return found


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_episodes_have_the_mean_and_the_spread_that_were_asked_for(spread):
    found = lengths_of(*played(Lengths(100, spread), 4000, num_envs=40))
    assert np.mean(found) == pytest.approx(100, rel=0.05)
    assert spread_of_lengths(found) == pytest.approx(spread, abs=0.05)


def test_a_reset_row_follows_every_end():
    terminated, valid = played(Lengths(20, 0.7), 500)
    np.testing.assert_array_equal(~valid[1:], terminated[:-1])
    assert not valid[0].any()


def test_lengths_are_those_of_an_environment_whoever_holds_it():
    lengths = Lengths(20, 0.7)
    all_of_them = played(lengths, 300, num_envs=4)
    rest = played(lengths, 300, first_index=2, num_envs=2)
    for whole, part in zip(all_of_them, rest, strict=True):
        np.testing.assert_array_equal(whole[:, 2:], part)
    other = played(lengths, 300, first_index=4)
    assert not np.array_equal(all_of_them[0], other[0])


def test_after_a_restart_other_episodes_come():
    first, second = (played(Lengths(20, 0.7), 300, restarts=n)[0] for n in (1, 2))
    assert not np.array_equal(first, second)
    begun = played(Lengths(20), 21, restarts=2)[0]
    assert begun[20].all() and not begun[:20].any()  # all at the beginning of an episode


def test_few_episodes_tell_nothing():
    assert spread_of_lengths([3, 50]) == 0.0
