# SPDX-License-Identifier: Apache-2.0
"""Made-up streams of stacked frames, cut into messages, and what each row must be read back as. A row is known by its
reward, which no other has."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shoal.types import ArraySpec, Discrete, EnvSpec, Sequences, Trajectory, Transitions

STACK, DISCOUNT = 4, 0.9
PICTURES = EnvSpec("made:up", ArraySpec((STACK, 3, 2), "uint8"), Discrete(5))
MIXED = EnvSpec(
    "made:up",
    {"camera": ArraySpec((STACK, 3, 2), "uint8"), "place": ArraySpec((2,), "float32"),
     "action_mask": ArraySpec((5,), "bool")},
    Discrete(5),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What `make_memory` reads."""

    replay_capacity: int = 96
    replay_shards: int = 1
    all_actors: int = 1
    envs_per_actor: int = 3
    unroll_length: int = 8
    env_steps: int = 1_000
    n_step: int = 3
    sequence_length: int = 0
    burn_in: int = 0
    priorities: str = "none"
    priority_exponent: float = 0.6
    importance_exponent: float = 0.4
    importance_final: float = 1.0
    importance_steps: int | None = None
    eviction: str = "fifo"
    deduplicate: bool = True
    frame_stack: int = 1


class Timeline(NamedTuple):
    """One stream from beginning to end, time first; the next step resets."""

    obs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray


def timeline(stream, steps, rng, filled_up):
    """`filled_up`: with what a stack is filled at an episode's start, "repeat", "zeros", or "others": frames that were
    never seen, as after steps that nobody was shown."""
    frames = rng.integers(0, 256, (steps + 1, 3, 2), np.uint8)
    frames[:, 0, 0] = stream
    obs = np.zeros((steps + 1, STACK, 3, 2), np.uint8)
    terminated, truncated, valid = np.zeros((3, steps), bool)
    fresh, left = True, 0
    for t in range(steps + 1):
        if fresh:
            older = {"repeat": frames[t], "zeros": 0, "others": rng.integers(0, 256, (STACK - 1, 3, 2), np.uint8)}
            obs[t, :-1] = older[filled_up]
            obs[t, -1] = frames[t]
            left = int(rng.integers(1, 12))
        else:
            obs[t, :-1], obs[t, -1] = obs[t - 1, 1:], frames[t]
        if t == steps:
            break
        fresh = left == 0  # this row only resets
        valid[t] = not fresh
        left -= 1
        if left == 0:
            (terminated if rng.random() < 0.5 else truncated)[t] = True
    return Timeline(obs, terminated, truncated, valid)


def row(line, t, n):
    """(steps, discount) of row t, followed by hand."""
    discount, steps = 1.0, 0
    while steps < n:
        steps += 1
        discount *= DISCOUNT
        if line.terminated[t + steps - 1]:
            return steps, 0.0
        if line.truncated[t + steps - 1]:
            break
    return steps, discount


def whole(obs, mixed):
    """Observations as the spec has them."""
    if not mixed:
        return obs
    place = obs[..., -1, 0, :2].astype(np.float32) * 1.5
    return {"camera": obs, "place": place, "action_mask": obs[..., -1, :, :].reshape(*obs.shape[:-3], 6)[..., :5] > 99}


class Stream(NamedTuple):
    """Messages of one actor, and its rows by their rewards."""

    messages: list[Transitions]
    rows: dict[int, tuple]
    """obs, action, discount, next_obs, version"""


def stream(settings, messages, *, seed=0, filled_up="repeat", lost=0.0, mixed=False, first=0):
    """An actor's messages; a share `lost` of them is left out, so that the next one does not follow."""
    rng = np.random.default_rng(seed)
    length, n = settings.unroll_length, settings.n_step
    ids = first + np.arange(settings.envs_per_actor)
    lines = [timeline(i, messages * length + n, rng, filled_up) for i in ids]
    together = Timeline(*(np.stack(parts, 1) for parts in zip(*lines, strict=True)))
    made, rows = [], {}
    for number in range(messages):
        if rng.random() < lost:
            continue
        t = np.arange(number * length, (number + 1) * length)
        reward = (t[:, None] * len(ids) + np.arange(len(ids)) + 100_000 * first).astype(np.float32)
        action = rng.integers(0, 5, (length, len(ids))).astype(np.int32)
        version = np.full(len(ids), number)
        known = [[row(line, at, n) for line in lines] for at in t]
        steps = np.array([[s for s, _ in each] for each in known], np.int32)
        discount = np.array([[d for _, d in each] for each in known], np.float32)
        obs = together.obs[t[0] : t[0] + length + n]
        valid = together.valid[t]
        priority = rng.random(reward.shape).astype(np.float32)
        made.append(Transitions(whole(obs, mixed), action, reward, discount, steps, valid, version, ids, priority))
        for i, b in zip(*np.nonzero(valid), strict=True):
            rows[int(reward[i, b])] = (obs[i, b], action[i, b], discount[i, b], obs[i + steps[i, b], b], number)
    return Stream(made, rows)


def sequences(settings, count, *, seed=0, filled_up="repeat", n=4):
    """Messages of sequences, each of one episode: rows before it (burn-in) and after it are not valid and repeat."""
    rng = np.random.default_rng(seed)
    length, made = settings.sequence_length, []
    for number in range(count):
        parts = []
        for _ in range(n):
            line = timeline(7, 40, rng, filled_up)
            opens = int(rng.choice(np.flatnonzero(line.valid)))
            ends = np.flatnonzero((line.terminated | line.truncated | ~line.valid)[opens:])
            last = opens + (int(ends[0]) if len(ends) else 39 - opens)
            last = min(last, opens + length - 1)
            at = opens - int(rng.integers(0, settings.burn_in + 1)) + np.arange(length + 1)
            counts = ((at >= opens) & (at <= last))[:-1]
            parts.append((line.obs[np.clip(at, opens, last + 1)], counts))
        obs, valid = np.stack([o for o, _ in parts], 1), np.stack([v for _, v in parts], 1)
        reward = (number * 10_000 + np.arange(length)[:, None] * 10 + np.arange(n)).astype(np.float32)
        steps = Trajectory(
            obs=obs, action=rng.integers(0, 5, (length, n)).astype(np.int32), reward=reward,
            terminated=rng.random((length, n)) < 0.2, truncated=rng.random((length, n)) < 0.2, valid=valid,
            log_prob=(), memory=(rng.random((n, 3)).astype(np.float32), {"x": rng.random(n)}),
            version=np.full(n, number), episode_return=(), episode_length=(),
        )  # fmt: skip
        made.append(Sequences(steps, np.ones(n, np.float32), (), rng.random(n).astype(np.float32)))
    return made
