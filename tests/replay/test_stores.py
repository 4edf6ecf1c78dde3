# SPDX-License-Identifier: Apache-2.0
"""Whatever the store, a row is read back as it was written: at episode starts, where messages are lost, and where
rings begin anew."""

import numpy as np
import pytest

from replay.made_up import MIXED, PICTURES, Settings, sequences, stream, whole
from shoal.errors import ConfigError
from shoal.replay import make_memory, shard_bytes
from shoal.trees import tree_leaves

STORES = {
    "rings": {},
    "rings of whole stacks": {"deduplicate": False},
    "pairs": {"eviction": "priority", "priorities": "proportional"},
}


def rows_in(memory):
    """All rows of a memory, by reward: drawn so often that each is there."""
    batch = memory.draw(60 * memory.size)
    _, first = np.unique(batch.reward, return_index=True)
    return {int(batch.reward[i]): i for i in first}, batch


def require_equal(memory, rows, mixed=False):
    found, batch = rows_in(memory)
    for reward, i in found.items():
        obs, action, discount, next_obs, version = rows[reward]
        for got, expected in ((batch.obs, obs), (batch.next_obs, next_obs)):
            for a, b in zip(tree_leaves(got), tree_leaves(whole(expected, mixed)), strict=True):
                np.testing.assert_array_equal(a[i], b)
        assert (batch.action[i], batch.discount[i], batch.version[i]) == (action, discount, version)
    return found


@pytest.mark.parametrize("lost", (0.0, 0.3), ids=("all", "some lost"))
@pytest.mark.parametrize("filled_up", ("repeat", "zeros", "others"))
@pytest.mark.parametrize("store", STORES)
def test_rows_are_read_as_they_were_written(store, filled_up, lost):
    settings = Settings(**STORES[store])
    made = stream(settings, 25, filled_up=filled_up, lost=lost)
    memory = make_memory(settings, PICTURES, 0)
    for number, message in enumerate(made.messages):
        assert memory.add(message) == message.valid.sum()
        if number % 4 == 0:
            require_equal(memory, made.rows)
        assert memory.size <= memory.capacity


@pytest.mark.parametrize("n_step, unroll, envs", ((1, 8, 2), (8, 8, 2), (5, 7, 2), (1, 2, 1)))
def test_any_number_of_steps(n_step, unroll, envs):
    settings = Settings(n_step=n_step, unroll_length=unroll, envs_per_actor=envs)
    made = stream(settings, 40, lost=0.2, filled_up="others")
    memory = make_memory(settings, PICTURES, 0)
    for message in made.messages:
        memory.add(message)
    require_equal(memory, made.rows)


@pytest.mark.parametrize("store", STORES)
def test_dicts_with_masks(store):
    settings = Settings(**STORES[store])
    made = stream(settings, 12, mixed=True, lost=0.2, filled_up="others")
    memory = make_memory(settings, MIXED, 0)
    for message in made.messages:
        memory.add(message)
    require_equal(memory, made.rows, mixed=True)


def test_rings_keep_the_newest_of_each_stream():
    settings = Settings(replay_capacity=90, envs_per_actor=3)
    made = stream(settings, 20)
    memory = make_memory(settings, PICTURES, 0)
    for message in made.messages:
        memory.add(message)
    found = require_equal(memory, made.rows)
    newest = 20 * settings.unroll_length - 30
    assert set(found) == {reward for reward in made.rows if reward // 3 >= newest}
    assert memory.size == len(found)


def test_streams_of_several_actors_that_take_turns_and_start_anew():
    settings = Settings(all_actors=2, replay_capacity=200)
    one, two = stream(settings, 20, seed=1), stream(settings, 20, seed=2, first=3)
    memory = make_memory(settings, PICTURES, 0)
    again = stream(settings, 6, seed=3, first=0)
    order = [one.messages[0], *two.messages[:9], *one.messages[1:4], *two.messages[9:12]]
    for message in order:
        memory.add(message)
    require_equal(memory, one.rows | two.rows)
    restarted = {r + 50_000: row for r, row in again.rows.items()}
    for message in again.messages:
        memory.add(message._replace(reward=message.reward + 50_000))
    require_equal(memory, one.rows | two.rows | restarted)


def test_more_streams_than_there_is_room_for():
    settings = Settings()
    memory = make_memory(settings, PICTURES, 0)
    memory.add(stream(settings, 1).messages[0])
    with pytest.raises(ValueError, match="stream 3 "):
        memory.add(stream(settings, 1, first=3).messages[0])


def test_frames_once_take_an_eighth_of_pairs_of_stacks():
    frames = Settings(replay_capacity=100_000, envs_per_actor=8)
    atari = PICTURES.__class__("ale", PICTURES.obs.__class__((4, 84, 84), "uint8"), PICTURES.action)
    pairs = Settings(**STORES["pairs"], replay_capacity=100_000, envs_per_actor=8)
    assert 7.7 < shard_bytes(pairs, atari) / shard_bytes(frames, atari) < 8.1


SEQUENCES = {"sequence_length": 9, "burn_in": 3, "replay_capacity": 72, "priorities": "proportional"}


@pytest.mark.parametrize("filled_up", ("repeat", "zeros", "others"))
@pytest.mark.parametrize("more", ({}, {"deduplicate": False}, {"eviction": "priority"}), ids=str)
def test_sequences_are_read_as_they_were_written(more, filled_up):
    settings = Settings(**SEQUENCES | more)
    messages = sequences(settings, 8, filled_up=filled_up)
    memory = make_memory(settings, PICTURES, 0)
    assert memory.capacity == 12
    rows = sum(memory.add(message) for message in messages)
    assert rows == memory.added == sum(int(m.steps.valid[3:].sum()) for m in messages)
    drawn = memory.draw(5, groups=40)
    assert drawn.steps.reward.shape == (40, 9, 5) and drawn.steps.obs.shape == (40, 10, 5, 4, 3, 2)
    assert drawn.steps.memory[1]["x"].shape == drawn.weight.shape == (40, 5)
    assert memory.drawn == drawn.steps.valid[:, 3:].sum()
    for k, i in np.ndindex(40, 5):
        number, n = divmod(int(drawn.steps.reward[k, 0, i]), 10_000)
        one = messages[number].steps
        for name in ("action", "reward", "terminated", "truncated", "valid"):
            np.testing.assert_array_equal(getattr(drawn.steps, name)[k, :, i], getattr(one, name)[:, n])
        assert drawn.steps.memory[1]["x"][k, i] == one.memory[1]["x"][n] and drawn.steps.version[k, i] == number
        np.testing.assert_array_equal(drawn.steps.memory[0][k, i], one.memory[0][n])
        valid = one.valid[:, n]
        seen = np.r_[valid, False] | np.r_[False, valid]
        np.testing.assert_array_equal(drawn.steps.obs[k, seen, i], one.obs[seen, n])


def test_sequences_of_what_is_no_stack_are_refused():
    settings = Settings(**SEQUENCES)
    message = sequences(settings, 1)[0]
    noise = np.random.default_rng(0).integers(0, 256, message.steps.obs.shape, np.uint8)
    steps = message.steps._replace(obs=noise, valid=np.ones((9, 4), bool))
    with pytest.raises(ConfigError, match="--no-deduplicate"):
        make_memory(settings, PICTURES, 0).add(message._replace(steps=steps))
