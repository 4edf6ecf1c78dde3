# SPDX-License-Identifier: Apache-2.0
"""Toy learning in NumPy: every function is pure in its arguments and the seed, so that only order can change results.

Params are [8] numbers. What an actor makes depends on the params it acts under, so a result tells apart every
version that was used and every order in which data was consumed.
"""

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZE = 8
STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of all toys; each uses some."""

    actors: int = 2
    updates: int = 20
    batch: int = 2
    slots: int = 2
    inner_updates: int = 3


def keep(update: int, params: Any) -> Any:
    """The visit that changes nothing."""
    return params


class Parts:
    """The toy's functions. With `jitter_s`, each sleeps a random time up to that long, drawn anew in every run."""

    def __init__(self, seed: int = 0, jitter_s: float = 0.0):
        self.seed, self.jitter_s = seed, jitter_s
        self._luck = np.random.default_rng()
        self.target = np.random.default_rng(seed).normal(size=SIZE)

    @property
    def recipe(self) -> tuple[str, tuple]:
        """How another process makes the same functions."""
        return "engines.toys.parts:Parts", (self.seed, self.jitter_s)

    def rng(self, index: int, count: int) -> np.random.Generator:
        """Noise of one actor's one piece of work."""
        if self.jitter_s:
            time.sleep(self._luck.uniform(0, self.jitter_s))
        return np.random.default_rng((self.seed, index, count))

    def init(self) -> np.ndarray:
        """First params [8]."""
        return np.zeros(SIZE)

    def unroll(self, params: np.ndarray, index: int, count: int) -> dict[str, np.ndarray]:
        """A trajectory: obs [4, 8], action [4], reward [4]."""
        rng = self.rng(index, count)
        obs = rng.normal(size=(STEPS, SIZE))
        action = obs @ params + 0.1 * rng.normal(size=STEPS)
        return {"obs": obs, "action": action, "reward": -((action - obs @ self.target) ** 2)}

    def gradient(self, params: np.ndarray, data: dict[str, np.ndarray]) -> np.ndarray:
        """Gradient [8] of a squared error that also depends on what was acted."""
        error = data["obs"] @ params - data["obs"] @ self.target + 0.1 * data["action"]
        return data["obs"].T @ error / len(error)

    def update(self, params: np.ndarray, batch: list[dict[str, np.ndarray]]) -> np.ndarray:
        """New params after one step over a list of trajectories."""
        self.rng(0, 0)
        return params - 0.05 * np.mean([self.gradient(params, data) for data in batch], axis=0)

    def score(self, params: np.ndarray) -> float:
        """How close params are to the target; 0 is best."""
        return float(-np.sum((params - self.target) ** 2))

    def perturb(self, params: np.ndarray, index: int, count: int) -> np.ndarray:
        """Params with this actor's own noise."""
        return params + 0.1 * self.rng(index, count).normal(size=SIZE)

    def act(self, params: np.ndarray, obs: list[np.ndarray]) -> list[np.ndarray]:
        """An action for each observation [8]: the batched forward pass of an inference role."""
        self.rng(0, 0)
        return [np.atleast_1d(o @ params) for o in obs]

    def join(self, obs: list[np.ndarray], action: list[np.ndarray]) -> dict[str, np.ndarray]:
        """A trajectory from single steps."""
        return {"obs": np.stack(obs), "action": np.concatenate(action)}


class Replay:
    """The last `capacity` items; draws a batch as a function of the seed and of how many were drawn before."""

    def __init__(self, seed: int, capacity: int = 64):
        self.seed, self.added, self.drawn = seed, 0, 0
        self.priorities: dict[int, float] = {}
        self._items: deque[tuple[int, Any]] = deque(maxlen=capacity)

    def add(self, item: Any, priority: float = 1.0) -> None:
        """Keep an item."""
        self._items.append((self.added, item))
        self.priorities[self.added] = priority
        self.added += 1

    def sample(self, n: int) -> list[tuple[int, Any]]:
        """n pairs of key and item, by priority."""
        rng = np.random.default_rng((self.seed, self.drawn))
        self.drawn += n
        weights = np.array([self.priorities[key] for key, _ in self._items])
        chosen = rng.choice(len(self._items), size=n, p=weights / weights.sum())
        return [self._items[i] for i in chosen]

    def prioritise(self, keys: list[int], priorities: list[float]) -> None:
        """Give items new priorities."""
        self.priorities.update(zip(keys, priorities, strict=True))
