# SPDX-License-Identifier: Apache-2.0
"""The cost of a call as a straight line in its size: a fixed part a, and b for each item."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """seconds = fixed_s + per_item_s * size."""

    fixed_s: float
    per_item_s: float
    error: float
    """largest distance of a measured point from the line, as a fraction of the point"""

    def at(self, size: float) -> float:
        """Seconds of a call of this size."""
        return self.fixed_s + self.per_item_s * size

    @property
    def half_size(self) -> float:
        """The size at which the fixed part is half of the cost; infinite where only the fixed part is seen."""
        return self.fixed_s / self.per_item_s if self.per_item_s > 0 else float("inf")


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The line through (size, seconds) that is nearest in relative distance, with neither part below 0.

    Relative, because a batch of 1 that is off by half matters as much as one of 256.

    A single point is taken as proportional to its size.

    Check: points on a line give that line back.
    """
    size, seconds = np.array(points, float).T
    through_origin = (0.0, _least_squares(size[None], seconds)[0])
    if len(set(size)) == 1:
        candidates = [through_origin]
    else:
        candidates = [_least_squares(np.stack([np.ones_like(size), size]), seconds)]
        if min(candidates[0]) < 0:
            candidates = [(_least_squares(np.ones((1, len(size))), seconds)[0], 0.0), through_origin]
    lines = [Line(a, b, float(np.max(np.abs((a + b * size) / seconds - 1)))) for a, b in candidates]
    return min(lines, key=lambda line: float(np.sum(((line.fixed_s + line.per_item_s * size) / seconds - 1) ** 2)))


def _least_squares(columns: np.ndarray, seconds: np.ndarray) -> tuple[float, ...]:
    weighted = (columns / seconds).T
    solution, *_ = np.linalg.lstsq(weighted, np.ones_like(seconds), rcond=None)
    return tuple(float(x) for x in solution)


def break_even(here: Line, there: Line) -> float | None:
    """The size from which `there` is cheaper: (a' - a) / (b - b'). 0 if always, None if never.

    Source: the batch from which an accelerator's inference wins, a / (c / W - b), with a fixed part on both sides.

    Check: at the size returned both cost the same.
    """
    if there.per_item_s >= here.per_item_s:
        # it never catches up; where it is no slower at any size it wins from the start
        return 0.0 if there.fixed_s < here.fixed_s and there.per_item_s == here.per_item_s else None
    return max(0.0, (there.fixed_s - here.fixed_s) / (here.per_item_s - there.per_item_s))
