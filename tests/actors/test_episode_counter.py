# SPDX-License-Identifier: Apache-2.0
"""Episode returns and lengths: against a plain loop, and unaffected by where unrolls are cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference import trajectories
from shoal.actors.rollout import EpisodeCounter


def counted(counter, made, rows=slice(None)):
    return counter.count(made.reward[rows], made.ended[rows], made.valid[rows])


def rewards_where_valid(made):
    return made._replace(reward=np.where(made.valid, made.reward, 0).astype(np.float32))


def by_loop(made):
    """Returns and lengths, one number at a time."""
    returns, lengths = np.full(made.reward.shape, np.nan), np.zeros(made.reward.shape, int)
    for b in range(made.reward.shape[1]):
        total, length = 0.0, 0
        for t in range(made.reward.shape[0]):
            total += float(made.reward[t, b])
            length += int(made.valid[t, b])
            if made.ended[t, b]:
                returns[t, b], lengths[t, b] = total, length
                total, length = 0.0, 0
    return returns, lengths


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 4), st.floats(0, 0.9))
def test_equals_a_plain_loop(seed, steps, num_envs, end_prob):
    made = rewards_where_valid(trajectories.make(seed, steps, num_envs, end_prob))
    returns, lengths = counted(EpisodeCounter(num_envs), made)
    expected_returns, expected_lengths = by_loop(made)
    np.testing.assert_allclose(returns, expected_returns, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(lengths, expected_lengths)
    assert returns.dtype == np.float32
    assert lengths.dtype == np.int32


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 4), st.data())
def test_a_whole_unroll_equals_its_parts(seed, steps, num_envs, data):
    made = rewards_where_valid(trajectories.make(seed, steps, num_envs))
    cuts = sorted(data.draw(st.lists(st.integers(1, steps - 1), max_size=4, unique=True)))
    whole = counted(EpisodeCounter(num_envs), made)
    counter = EpisodeCounter(num_envs)
    parts = [counted(counter, made, slice(a, b)) for a, b in zip([0, *cuts], [*cuts, steps], strict=True)]
    np.testing.assert_allclose(np.concatenate([returns for returns, _ in parts]), whole[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([lengths for _, lengths in parts]), whole[1])


def test_by_hand():
    counter = EpisodeCounter(1)
    column = np.array([1, 2, 0, 5], np.float32)[:, None]
    ended, valid = np.array([[False], [True], [False], [False]]), np.array([[True], [True], [False], [True]])
    returns, lengths = counter.count(column, ended, valid)
    np.testing.assert_array_equal(returns[:, 0], [np.nan, 3, np.nan, np.nan])
    np.testing.assert_array_equal(lengths[:, 0], [0, 2, 0, 0])
    returns, lengths = counter.count(column[:1], np.array([[True]]), np.array([[True]]))
    assert (returns[0, 0], lengths[0, 0]) == (6, 2)


def test_a_million_small_rewards_are_not_rounded_away():
    counter = EpisodeCounter(1)
    no, yes = np.zeros((1000, 1), bool), np.ones((1000, 1), bool)
    for _ in range(1000):
        counter.count(np.full((1000, 1), 0.001, np.float32), no, yes)
    returns, lengths = counter.count(np.zeros((1, 1), np.float32), np.array([[True]]), np.array([[True]]))
    assert abs(returns[0, 0] - 1000) < 0.1
    assert lengths[0, 0] == 1_000_001


def test_an_episode_that_was_lost_is_none():
    """Its row ends it, truncated and not valid; what follows is counted from there on."""
    reward = np.ones((6, 1), np.float32)
    ended = np.array([[0], [0], [1], [0], [0], [1]], bool)
    valid = np.array([[1], [1], [0], [0], [1], [1]], bool)
    reward[~valid] = 0
    returns, lengths = EpisodeCounter(1).count(reward, ended, valid)
    np.testing.assert_array_equal(returns[:, 0], [np.nan] * 5 + [2])
    assert lengths[:, 0].tolist() == [0] * 5 + [2]
    truncated = EpisodeCounter(1).count(reward, ended, valid | ended)  # one that was not lost counts
    assert truncated[1][:, 0].tolist() == [0, 0, 3, 0, 0, 2]
