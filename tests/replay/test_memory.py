# SPDX-License-Identifier: Apache-2.0
"""Draws follow priorities, keys find their rows or nothing, snapshots are whole or refused, sizes are as stated."""

import dataclasses

import numpy as np
import psutil
import pytest
from scipy import stats

from replay.made_up import PICTURES, Settings, sequences, stream
from shoal.errors import CheckpointError, ConfigError, MemoryShort, NonFiniteError
from shoal.processes.limits import free_memory
from shoal.replay import make_memory, require_replay_room, saved, shard_bytes
from shoal.replay.memory import Exponent
from shoal.trees import tree_leaves
from shoal.types import ArraySpec, Discrete, EnvSpec, Transitions

PRIORITISED = Settings(priorities="proportional", replay_capacity=300)


def filled(settings=PRIORITISED, messages=30, seed=0, draws=0):
    memory = make_memory(settings, PICTURES, draws)
    for message in stream(settings, messages, seed=seed).messages:
        memory.add(message)
    return memory


def given_priorities(rewards):
    """Priorities that rows of `filled()` came with, by their rewards."""
    messages = stream(PRIORITISED, 30).messages
    known = {r: p for m in messages for r, p in zip(m.reward.flat, m.priority.flat, strict=True)}
    return np.vectorize(known.get)(rewards).astype(np.float64)


def test_draws_follow_priorities():
    memory = filled()
    batch = memory.draw(1, groups=20_000)  # independent draws: one from each group
    rewards, counts = np.unique(batch.reward, return_counts=True)
    mass = given_priorities(rewards) ** 0.6
    assert len(rewards) == memory.size
    assert stats.chisquare(counts, mass / mass.sum() * counts.sum()).pvalue > 1e-3
    parts = memory.draw(32, groups=2_000).reward.ravel()  # one from each of 32 equal parts of the sum
    counts = np.array([np.count_nonzero(parts == r) for r in rewards])
    assert stats.chisquare(counts, mass / mass.sum() * counts.sum()).pvalue > 1e-3
    assert abs(counts / counts.sum() - mass / mass.sum()).max() < 2e-3


def test_even_draws():
    memory = filled(dataclasses.replace(PRIORITISED, priorities="none"))
    _, counts = np.unique(memory.draw(64, groups=800).reward, return_counts=True)
    assert len(counts) == memory.size
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weights_make_up_for_priorities():
    memory = filled()
    batch = memory.draw(64, groups=3)
    mass = given_priorities(batch.reward) ** 0.6
    beta = 0.4 + 0.6 * memory.added / 1_000
    weight = (1 / mass) ** beta
    np.testing.assert_allclose(batch.weight, weight / weight.max(axis=1, keepdims=True), rtol=1e-5)
    assert (batch.weight.max(axis=1) == 1).all()


def test_importance_exponent_goes_by_env_steps():
    exponent = Exponent(0.4, 1.0, 100)
    assert [round(exponent.after(steps), 6) for steps in (0, 50, 100, 1_000)] == [0.4, 0.7, 1.0, 1.0]


def test_new_priorities_change_what_is_drawn():
    memory = filled()
    batch = memory.draw(1)
    everything = memory.draw(200, groups=30)
    assert memory.prioritise(everything.key, np.zeros((30, 200))) == 6_000
    assert memory.prioritise(batch.key, np.array([1e9])) == 1
    assert (memory.draw(100).reward == batch.reward).mean() > 0.9


def test_keys_of_rows_that_were_let_go_change_nothing():
    memory = filled()
    old = memory.draw(100)
    for message in stream(PRIORITISED, 30, seed=5).messages:
        memory.add(message)
    assert memory.prioritise(old.key, np.full(100, 1e9)) == 0
    assert memory.draw(100).weight.min() > 0.05  # nothing stands out


def test_rows_without_priorities_get_the_highest_so_far():
    memory = filled()
    newest = stream(PRIORITISED, 40).messages[-1]
    memory.prioritise(memory.draw(1).key, np.array([50.0]))
    memory.add(newest._replace(priority=()))
    drawn = memory.draw(64, groups=50)
    share = np.isin(drawn.reward, newest.reward[newest.valid]).mean()
    count = newest.valid.sum()
    others = np.mean(np.random.default_rng(0).random(10_000) ** 0.6) * (memory.size - count - 1)
    expected = count * 50**0.6 / (count * 50**0.6 + 50**0.6 + others)
    assert abs(share - expected) < 0.03


@pytest.mark.parametrize("wrong", (np.nan, np.inf, -1.0))
def test_priorities_that_are_no_numbers(wrong):
    memory = filled()
    batch = memory.draw(8)
    with pytest.raises(NonFiniteError, match="a priority of .* at row 3 of 8"):
        memory.prioritise(batch.key, np.where(np.arange(8) == 3, wrong, 1.0))
    message = stream(PRIORITISED, 1).messages[0]
    with pytest.raises(NonFiniteError):
        memory.add(message._replace(priority=np.full_like(message.priority, wrong)))


def test_who_makes_room_follows_priorities():
    settings = dataclasses.replace(PRIORITISED, eviction="priority", envs_per_actor=5, unroll_length=60)
    left = np.zeros(2)
    for seed in range(40):
        memory = make_memory(settings, PICTURES, seed)
        message = stream(settings, 1, seed=seed).messages[0]._replace(valid=np.ones((60, 5), bool))
        small = np.arange(300).reshape(60, 5) % 2 == 0
        memory.add(message._replace(priority=np.where(small, 0.01, 1.0).astype(np.float32)))
        assert memory.size == memory.capacity == 300
        memory.add(message._replace(reward=message.reward + 1_000, valid=np.arange(300).reshape(60, 5) < 30))
        assert memory.size == 300
        there = np.unique(memory.draw(20_000).reward)
        gone = np.setdiff1d(message.reward, there[there < 1_000])
        left += np.isin(gone, message.reward[small]).sum(), len(gone)
    expected = 0.01**-0.4 / (0.01**-0.4 + 1)
    assert left[1] == 40 * 30
    assert abs(left[0] / left[1] - expected) < 0.03


KINDS = {
    "rings": (Settings(priorities="proportional"), stream),
    "even": (Settings(), stream),
    "pairs": (Settings(priorities="proportional", eviction="priority"), stream),
    "sequences": (
        Settings(priorities="proportional", sequence_length=9, burn_in=3, replay_capacity=72),
        lambda settings, count, seed=0: type("M", (), {"messages": sequences(settings, count, seed=seed)}),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_memory_goes_on_as_the_saved_one(kind, tmp_path):
    settings, made = KINDS[kind]
    messages = made(settings, 20).messages
    memory, other = make_memory(settings, PICTURES, 0), make_memory(settings, PICTURES, 1)
    for message in messages[:10]:
        memory.add(message)
    memory.draw(7)
    memory.save(tmp_path / "snapshot")
    for message in made(settings, 5, seed=9).messages if kind == "pairs" else ():
        other.add(message)  # what was there before is of no account
    other.restore(tmp_path / "snapshot")
    assert (other.size, other.added, other.drawn) == (memory.size, memory.added, memory.drawn)
    for message in messages[10:]:
        for one in (memory, other):
            one.add(message)
        a, b = memory.draw(16, groups=2), other.draw(16, groups=2)
        for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
        assert memory.prioritise(a.key, np.ones((2, 16))) == other.prioritise(b.key, np.ones((2, 16)))


def test_another_seed_draws_otherwise():
    assert (filled(draws=0).draw(64).reward == filled(draws=0).draw(64).reward).all()
    assert (filled(draws=0).draw(64).reward != filled(draws=1).draw(64).reward).any()


def test_snapshots_are_whole_or_refused(tmp_path):
    memory = filled()
    memory.save(tmp_path / "good")
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    largest = max((tmp_path / "good").iterdir(), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    for spoiled, reason in ((whole[:-1], "cut short"), (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged")):
        largest.write_bytes(spoiled)
        with pytest.raises(CheckpointError, match=reason):
            filled().restore(tmp_path / "good")
    largest.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        filled().restore(tmp_path / "good")
    (tmp_path / "good" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError):
        filled().restore(tmp_path / "good")
    with pytest.raises(CheckpointError, match="already"):
        memory.save(tmp_path / "good")


def test_a_snapshot_of_another_memory(tmp_path):
    filled().save(tmp_path / "one")
    with pytest.raises(CheckpointError, match="is of another memory"):
        make_memory(dataclasses.replace(PRIORITISED, replay_capacity=600), PICTURES, 0).restore(tmp_path / "one")


def test_snapshots_are_cut_into_segments(tmp_path):
    arrays = {"a": np.arange(1_000.0), "zero": np.zeros(10), "none": np.zeros(0)}
    saved.save(tmp_path / "s", arrays, {"x": 1}, segment_bytes=3_000)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a-0", "a-1", "a-2", "manifest.json"]
    back = {"a": np.ones(1_000), "zero": np.ones(10), "none": np.zeros(0)}
    assert saved.state_of(tmp_path / "s") == {"x": 1}
    saved.restore(tmp_path / "s", back)
    assert all((back[name] == arrays[name]).all() for name in arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_as_stated(kind):
    settings, made = KINDS[kind]
    memory = make_memory(settings, PICTURES, 0)
    assert memory.nbytes == shard_bytes(settings, PICTURES)


@pytest.mark.slow
@pytest.mark.alone
def test_a_million_frames_of_atari_take_what_is_stated():
    atari = EnvSpec("ale:pong", ArraySpec((4, 84, 84), "uint8"), Discrete(6))
    settings = Settings(replay_capacity=10**6, envs_per_actor=8, unroll_length=100, priorities="proportional", n_step=1)
    stated = shard_bytes(settings, atari)
    if free_memory() < 1.2 * stated:
        pytest.skip(f"needs {stated:,} bytes")
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (100, 8, 84, 84), np.uint8)
    stacks = np.stack([np.roll(frames, back, axis=0) for back in (3, 2, 1, 0)], axis=2)
    shape = (100, 8)
    message = Transitions(
        np.concatenate([stacks, stacks[:1]]), np.zeros(shape, np.int32), np.zeros(shape, np.float32),
        np.ones(shape, np.float32), np.ones(shape, np.int32), np.ones(shape, bool), np.zeros(8, np.int64),
        np.arange(8), random.random(shape),
    )  # fmt: skip
    before = psutil.Process().memory_info().rss
    memory = make_memory(settings, atari, 0)
    for _ in range(10**6 // 800):
        memory.add(message)
    taken = psutil.Process().memory_info().rss - before
    assert memory.size == 10**6
    assert memory.nbytes == stated
    assert abs(taken / stated - 1) < 0.1


def test_shards_share_the_capacity():
    settings = Settings(all_actors=4, replay_shards=2, replay_capacity=240)
    memories = [make_memory(settings, PICTURES, 0, shard) for shard in range(2)]
    assert [memory.capacity for memory in memories] == [120, 120]
    for actor in range(4):
        memories[actor % 2].add(stream(settings, 1, first=3 * actor).messages[0])
    drawn = [memory.draw(40).reward // 300_000 for memory in memories]
    assert [set(actors) for actors in drawn] == [{0, 2}, {1, 3}]


def test_what_cannot_work_is_refused_beforehand():
    atari = EnvSpec("ale:pong", ArraySpec((4, 84, 84), "uint8"), Discrete(6))
    with pytest.raises(MemoryShort, match=r"replay_capacity=1000000000 rows of ale:pong need 7,\d+,\d+,\d+,\d+ bytes"):
        require_replay_room(Settings(replay_capacity=10**9), atari)
    require_replay_room(Settings(), atari)
    for wrong, words in (
        ({"sequence_length": 100, "burn_in": 10}, "sequence_length=100 rows are more than a memory of 96"),
        ({"replay_capacity": 20}, "replay_capacity=20 leaves 7 rows"),
        ({"eviction": "priority"}, "--priorities proportional"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_memory(Settings(**wrong), PICTURES, 0)
