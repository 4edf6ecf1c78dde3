# SPDX-License-Identifier: Apache-2.0
"""Transitions against a loop that follows every row by hand: ends, losses, and unrolls in parts."""

from types import SimpleNamespace

import numpy as np
import pytest

from shoal.actors.transitions import Builder, learnt_reward
from shoal.types import Trajectory

T, B, DISCOUNT = 24, 6, 0.9


def config(n_step: int, clip: float | None = None) -> SimpleNamespace:
    return SimpleNamespace(n_step=n_step, discount=DISCOUNT, reward_scale=0.5, reward_clip=clip)


def random_steps(seed: int) -> Trajectory:
    """Every kind of row: steps, ends of both kinds, rows that reset or rest, rows whose environment was lost."""
    rng = np.random.default_rng(seed)
    flags = {name: np.zeros((T, B), bool) for name in ("terminated", "truncated")}
    valid = np.ones((T, B), bool)
    for b in range(B):
        t = int(rng.integers(0, 6))
        while t < T:
            kind = rng.choice(["terminated", "truncated", "lost"])
            flags["terminated" if kind == "terminated" else "truncated"][t, b] = True
            valid[t, b] = kind != "lost"
            rest = int(rng.integers(1, 3))
            valid[t + 1 : t + 1 + rest, b] = False
            t += rest + int(rng.integers(1, 8))
    obs = rng.normal(size=(T + 1, B, 3)).astype(np.float32)
    lost = ~valid & flags["truncated"]
    obs[1:][lost] = obs[:-1][lost]
    reward = np.where(valid, rng.normal(size=(T, B)) * 3, 0).astype(np.float32)
    return Trajectory(
        obs, rng.integers(0, 4, (T, B)), reward, **flags, valid=valid, log_prob=np.zeros((T, B), np.float32), memory=(),
        version=np.full(B, 7), episode_return=np.full((T, B), np.nan, np.float32), episode_length=np.zeros((T, B), int),
    )  # fmt: skip


def followed(steps: Trajectory, t: int, b: int, n: int, clip: float | None) -> tuple[float, float, int]:
    """(reward, discount, steps) of a valid row, one step at a time."""
    total, factor, taken = 0.0, 1.0, 0
    for row in range(t, t + n):
        if not steps.valid[row, b]:
            return total, factor, taken
        reward = steps.reward[row, b] * 0.5
        total += factor * (reward if clip is None else min(max(reward, -clip), clip))
        factor, taken = factor * DISCOUNT, taken + 1
        if steps.terminated[row, b]:
            return total, 0.0, taken
        if steps.truncated[row, b]:
            return total, factor, taken
    return total, factor, taken


@pytest.mark.parametrize(("n", "clip"), [(1, None), (3, None), (3, 1.0), (5, None)])
def test_rows_are_what_following_them_by_hand_gives(n, clip):
    steps = random_steps(n)
    made = Builder(config(n, clip), first_index=12).transitions(steps)
    assert made.reward.shape == (T - n + 1, B)
    assert len(made.obs) == T + 1
    np.testing.assert_array_equal(made.stream, 12 + np.arange(B))
    np.testing.assert_array_equal(made.valid, steps.valid[: T - n + 1])
    for t, b in np.argwhere(made.valid):
        reward, discount, taken = followed(steps, t, b, n, clip)
        assert made.steps[t, b] == taken
        assert made.reward[t, b] == pytest.approx(reward, rel=1e-5, abs=1e-6)
        assert made.discount[t, b] == pytest.approx(discount, rel=1e-6)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("cuts", [(12, 24), (5, 11, 17, 24), tuple(range(1, 25))])
def test_an_unroll_in_parts_gives_the_rows_of_the_whole(n, cuts):
    steps = random_steps(100 + n)
    whole = Builder(config(n), 0).transitions(steps)
    builder = Builder(config(n), 0)
    parts = [builder.transitions(part(steps, *span)) for span in zip((0, *cuts), cuts, strict=False)]
    for name in ("action", "reward", "discount", "steps", "valid"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    full = [p for p in parts if len(p.reward)]
    assert all(len(p.obs) == len(p.reward) + n for p in full)
    np.testing.assert_array_equal(np.concatenate([p.obs[:-n] for p in full] + [full[-1].obs[-n:]]), whole.obs)


def test_what_waits_is_not_what_was_handed_on():
    steps = random_steps(1)
    builder = Builder(config(3), 0)
    first = part(steps, 0, 12)._replace(obs=steps.obs[:13].copy())
    builder.transitions(first)
    first.obs[:] = np.nan
    second = builder.transitions(part(steps, 12, 24))
    assert np.isfinite(second.obs).all()


def test_rows_name_the_oldest_params_that_acted():
    steps = random_steps(2)
    builder = Builder(config(3), 0)
    builder.transitions(part(steps, 0, 12))
    newer = part(steps, 12, 24)._replace(version=np.full(B, 9))
    np.testing.assert_array_equal(builder.transitions(newer).version, np.full(B, 7))


def test_rewards_are_scaled_before_they_are_clipped():
    np.testing.assert_array_equal(learnt_reward(np.float32([-4, 0.5, 4]), 0.5, 1.0), np.float32([-1, 0.25, 1]))


def part(steps: Trajectory, begin: int, end: int) -> Trajectory:
    """Rows begin .. end-1."""
    rows = ("action", "reward", "terminated", "truncated", "valid")
    return steps._replace(obs=steps.obs[begin : end + 1], **{name: getattr(steps, name)[begin:end] for name in rows})
