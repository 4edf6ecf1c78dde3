# SPDX-License-Identifier: Apache-2.0
"""Episode statistics: the last hundred, counted over any layout."""

import json

import numpy as np

from shoal.records.episodes import EpisodeStats

NAN = float("nan")


def test_only_ended_episodes_count() -> None:
    stats = EpisodeStats()
    assert stats.metrics() == {"episodes": 0}
    assert stats.add(np.array([[NAN, 3.0], [5.0, NAN]]), np.array([[0, 30], [50, 0]])) == 2
    assert stats.metrics() == {"episodes": 2, "episode_return_mean": 4.0, "episode_length_mean": 40.0}


def test_one_call_equals_a_call_for_each_row() -> None:
    chance = np.random.default_rng(0)
    returns = np.where(chance.random((60, 8)) < 0.5, chance.normal(size=(60, 8)), NAN)
    lengths = chance.integers(1, 99, (60, 8))
    whole, rows = EpisodeStats(), EpisodeStats()
    whole.add(returns, lengths)
    for row in range(60):
        rows.add(returns[row], lengths[row])
    assert whole.to_dict() == rows.to_dict()
    ended = returns[~np.isnan(returns)]
    assert whole.count == len(ended) > 100
    np.testing.assert_allclose(whole.metrics()["episode_return_mean"], ended[-100:].mean())


def test_saved_statistics_go_on_exactly() -> None:
    stats = EpisodeStats(window=3)
    stats.add(np.array([1.5, 2.5, 0.1]), np.array([1, 2, 3]))
    assert stats.is_full
    copy = EpisodeStats.from_dict(json.loads(json.dumps(stats.to_dict())))
    for each in (stats, copy):
        each.add(np.array([7.0, NAN]), np.array([9, 0]))
    assert copy.to_dict() == stats.to_dict() and copy.count == 4
