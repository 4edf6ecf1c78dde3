# SPDX-License-Identifier: Apache-2.0
"""Start states: at an episode's start, or spread over it as a function of seed and environment index alone."""

import numpy as np
import pytest

from actors.collecting import WAYS, assert_all_equal, collect, config_of, parts_of
from envs.recording import CASES
from shoal import envs
from shoal.actors.opening import open_episodes
from shoal.actors.rollout import Rollout
from shoal.envs.wrappers.rest import Resting
from shoal.errors import ConfigError
from shoal.trees import read_at, tree_leaves

SEED = 9
APART = {case.name: case for case in CASES if case.takes_slots}


def opened(factory, num_envs, first_index=0, **settings):
    return open_episodes(
        factory.make(num_envs, first_index), SEED, first_index + np.arange(num_envs), **{"decorrelate": 5, **settings}
    )


def assert_same(one, other):
    for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["envs.own:Walk", "toy:catch", "toy:gates", "toy:dials", "toy:signpost"])
def test_halves_open_as_the_whole(name):
    factory = envs.resolve(name)
    whole, left, right = opened(factory, 8), opened(factory, 4), opened(factory, 4, 4)
    assert_same(read_at(tuple(whole), slice(0, 4)), tuple(left))
    assert_same(read_at(tuple(whole), slice(4, 8)), tuple(right))


def test_starts_are_spread_and_none_is_when_not_asked():
    factory = envs.resolve("toy:catch")
    at_start, spread = opened(factory, 64, decorrelate=0), opened(factory, 64, decorrelate=5)
    assert not at_start.episode_length.any()
    np.testing.assert_array_equal(np.unique(spread.episode_length), np.arange(6))
    counts = np.bincount(spread.episode_length)
    assert counts.min() >= 3  # of 64, each of 6 has 10.7 in the mean
    # the row of the ball says how many steps were taken
    row = spread.obs.reshape(64, 10, 5)[:, :9].sum(-1).argmax(-1)
    np.testing.assert_array_equal(row, spread.episode_length)


def test_an_episode_that_ends_before_the_first_row_is_over():
    factory = envs.resolve("toy:catch", {"rows": 4})  # 3 steps an episode, then a row that resets
    spread = opened(factory, 64, decorrelate=5)
    lengths = {0: 0, 1: 1, 2: 2, 3: 0, 4: 0, 5: 1}
    assert set(np.unique(spread.episode_length)) == set(lengths.values())
    env = factory.make(64)
    rollout = Rollout(env, parts_of(config_of()).agent, seed=SEED, first_index=0, decorrelate=5)
    assert rollout.assembler.episodes.open_length.tolist() == spread.episode_length.tolist()


def test_episodes_count_what_came_before_the_first_row():
    """A chain of 9 steps, whatever was taken before: each episode is told with its whole length."""
    for name in ("serial", "parallel", "central by size", "alternating"):
        config = config_of(**WAYS[name], decorrelate=6, normalise_reward=True)
        (first, *_) = collect(config, parts_of(config), lengths=(12,))
        ended = first.episode_length > 0
        np.testing.assert_array_equal(first.episode_length[ended], 9)
        assert len(np.unique(np.argwhere(ended)[:, 0])) > 1  # not in step
        assert np.abs(first.episode_return[ended]).tolist() == [1.0] * int(ended.sum())


@pytest.mark.parametrize("reset", ["mid_batch", "wait"])
def test_all_samplers_open_and_rest_alike(reset):
    fields = {"decorrelate": 6, "reset": reset, "normalise_reward": True}
    lengths = (11, 11, 5)
    serial = collect(config_of(**fields), parts_of(config_of(**fields), "toy:bandit", "gru"), lengths)
    resting = ~serial[0].valid[1:] & ~serial[0].valid[:-1]
    assert resting.any() == (reset == "wait")
    for name in ("parallel", "parallel, uneven", "central", "central by size", "central by deadline", "alternating"):
        config = config_of(**fields, **WAYS[name])
        assert_all_equal(collect(config, parts_of(config, "toy:bandit", "gru"), lengths), serial, rounded=True)


def test_a_discounted_return_begins_before_the_first_row():
    found = opened(envs.resolve("toy:bandit", {"probabilities": (1.0, 1.0)}), 32, discount=0.5)
    expected = 2 * (1 - 0.5**found.episode_length)
    np.testing.assert_allclose(found.discounted_return, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.episode_return, found.episode_length)


def test_what_steps_together_is_refused():
    factory = envs.resolve("CartPole-v1")
    with pytest.raises(ConfigError, match="decorrelate=5 is not for CartPole-v1: its environments are stepped all"):
        opened(factory, 2)
    assert opened(factory, 1).episode_length.shape == (1,)


def test_rest_does_not_stop_the_spreading():
    env = Resting(envs.resolve("toy:catch", {"rows": 4}).make(16))
    found = open_episodes(env, SEED, np.arange(16), decorrelate=20)
    plain = opened(envs.resolve("toy:catch", {"rows": 4}), 16, decorrelate=20)
    assert_same(tuple(found), tuple(plain))
