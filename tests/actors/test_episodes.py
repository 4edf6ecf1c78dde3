# SPDX-License-Identifier: Apache-2.0
"""Whole episodes: one of each environment, none left out for being long, and nothing of any other."""

import numpy as np
import pytest

from agents.made import of_environments
from shoal import envs
from shoal.actors.episodes import start_episodes
from shoal.agents.lessons import rewards_to_go
from shoal.architectures import pg
from shoal.architectures.assemble import environment_for, make_parts
from shoal.trees import tree_map

LENGTH, LIMIT = 8, 600


APART = "gymnasium.envs.classic_control:CartPoleEnv"
"""the same data however environments are split, which CartPole-v1's vector form does not give"""


def made(env="CartPole-v1", network="auto", **fields):
    """(config, parts, params) of PG."""
    config = pg.Config(**{"num_actors": 1, "envs_per_actor": 4} | fields)
    parts = make_parts(pg, config, environment_for(config, envs.resolve(env)), network)
    return config, parts, parts.agent.init(0)


@pytest.mark.parametrize(("env", "network"), [("CartPole-v1", "auto"), ("toy:memory", "lstm"), ("toy:dials", "auto")])
def test_every_environment_plays_one_episode_from_its_beginning_to_its_end(env, network):
    config, parts, params = made(env, network)
    rollout = start_episodes(0, config, parts)
    batches = [rollout.episodes(params, 3, LENGTH, LIMIT) for _ in range(3)]
    for batch in batches:
        ended = batch.terminated | batch.truncated
        lengths = batch.valid.sum(axis=0)
        assert (ended.sum(axis=0) == 1).all()
        for index, length in enumerate(lengths):
            assert batch.valid[:length, index].all()
            assert ended[length - 1, index]
            assert batch.episode_length[length - 1, index] == length
            assert batch.episode_return[length - 1, index] == pytest.approx(batch.reward[:, index].sum(), rel=1e-6)
        rows = len(batch.valid)
        assert rows in LENGTH * 2 ** np.arange(8)
        assert rows // 2 < max(lengths.max(), LENGTH) <= rows
        assert (batch.version == 3).all()
    assert not np.array_equal(batches[0].obs[0], batches[1].obs[0]) or env != "CartPole-v1"


def test_memory_starts_anew_with_every_batch():
    config, parts, params = made("toy:memory", "lstm")
    rollout = start_episodes(0, config, parts)
    for _ in range(2):
        batch = rollout.episodes(params, 0, LENGTH, LIMIT)
        tree_map(np.testing.assert_array_equal, batch.memory, parts.agent.memory(4))


def test_episodes_do_not_depend_on_how_environments_are_split_nor_on_the_rows_begun_with():
    config, parts, params = made(APART)

    def second(length, config=config, parts=parts, index=0):
        rollout = start_episodes(index, config, parts)
        rollout.episodes(params, 0, length, LIMIT)  # of other lengths in each part
        return rollout.episodes(params, 0, length, LIMIT)

    whole, longer = second(LENGTH), second(256)
    rows = len(whole.valid)
    np.testing.assert_array_equal(longer.action[:rows][whole.valid], whole.action[whole.valid])
    assert not longer.valid[rows:].any()
    half, half_parts, _ = made(APART, num_actors=2, envs_per_actor=2)
    for index in range(2):
        part = second(LENGTH, half, half_parts, index)
        mine = of_environments(whole, slice(2 * index, 2 * index + 2))
        valid = part.valid
        np.testing.assert_array_equal(mine.valid[: len(valid)], valid)
        np.testing.assert_array_equal(mine.obs[: len(valid)][valid], part.obs[:-1][valid])
        np.testing.assert_array_equal(mine.action[: len(valid)][valid], part.action[valid])
    other = second(LENGTH, parts=parts._replace(seed=5))
    assert not np.array_equal(other.obs[0], whole.obs[0])


def test_long_episodes_are_cut_and_say_so():
    config, parts, params = made()
    rollout = start_episodes(0, config, parts)
    batch = rollout.episodes(params, 0, LENGTH, 10)
    cut = batch.valid.sum(axis=0) == 10
    assert cut.any()
    assert (batch.truncated[9] == cut).all()
    assert not batch.terminated[9, cut].any()
    assert len(batch.valid) == 16


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_rewards_to_go_are_discounted_sums_within_an_episode(discount):
    config, parts, params = made(discount=discount, reward_scale=0.5, reward_clip=0.4)
    batch = start_episodes(0, config, parts).episodes(params, 0, LENGTH, LIMIT)
    sums = rewards_to_go(config, batch)
    for index in range(4):
        length = batch.valid[:, index].sum()
        expected = [0.4 * sum(discount**k for k in range(length - t)) for t in range(length)]
        np.testing.assert_allclose(sums[:length, index], expected, rtol=1e-5)
        assert not sums[length:, index].any()
