# SPDX-License-Identifier: Apache-2.0
"""Finished episodes: how many, and the mean raw return and length of the last 100."""

from collections import deque
from typing import Any

import numpy as np

WINDOW = 100


class EpisodeStats:
    """Counts finished episodes and keeps the newest `window` of them."""

    def __init__(self, window: int = WINDOW) -> None:
        self.count = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=window)

    def add(self, episode_return: np.ndarray, episode_length: np.ndarray) -> int:
        """Take in a trajectory's [T, B] rows (returns NaN where no episode ended); gives how many ended.

        Check: one call over [T, B] equals T calls over its rows.
        """
        returns, lengths = np.asarray(episode_return), np.asarray(episode_length)
        ended = ~np.isnan(returns)
        # boolean indexing walks rows in time order, so the window keeps the latest
        self._recent.extend((float(r), int(n)) for r, n in zip(returns[ended], lengths[ended], strict=True))
        finished = int(ended.sum())
        self.count += finished
        return finished

    @property
    def return_mean(self) -> float | None:
        """Mean undiscounted raw return over the window; None before the first episode ends."""
        return float(np.mean([r for r, _ in self._recent])) if self._recent else None

    @property
    def length_mean(self) -> float | None:
        """Mean agent steps over the window; None before the first episode ends."""
        return float(np.mean([n for _, n in self._recent])) if self._recent else None

    @property
    def is_full(self) -> bool:
        """Whether the window holds as many episodes as it can: a return to stop on needs that."""
        return len(self._recent) == self._recent.maxlen

    def metrics(self) -> dict[str, Any]:
        """The row entries; means are left out before the first episode ends."""
        row: dict[str, Any] = {"episodes": self.count}
        if self._recent:
            row |= {"episode_return_mean": self.return_mean, "episode_length_mean": self.length_mean}
        return row

    def to_dict(self) -> dict[str, Any]:
        """All of it, for a checkpoint's meta."""
        return {"count": self.count, "window": self._recent.maxlen, "recent": [list(pair) for pair in self._recent]}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "EpisodeStats":
        """Check: from_dict(to_dict(x)) goes on exactly as x does."""
        stats = cls(int(saved["window"]))
        stats.count = int(saved["count"])
        stats._recent.extend((float(r), int(n)) for r, n in saved["recent"])
        return stats
