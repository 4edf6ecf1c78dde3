# SPDX-License-Identifier: Apache-2.0
"""What keeps a worker's gradient from the params of all: a loss far outside of what its losses have been."""

from math import sqrt

MEMORY = 0.99
"""by which what is known of earlier losses shrinks with every new one"""
WARM_UP = 20
"""losses that say nothing yet about what is usual"""


class OutlierGuard:
    """Tells losses that lie more than `deviations` standard deviations above their running mean.

    What lies above counts as if it were at the limit: one wild loss does not hide the next, and a loss that has risen
    for good is let through after a while. Nair et al. 2015 (arXiv 1507.04296, section 4.3), who drop gradients so.

    Check: a loss a thousand times the mean is refused, and what came before and after is not.
    """

    def __init__(self, deviations: float):
        self._deviations = deviations
        self._seen, self._weight, self._mean, self._square = 0, 0.0, 0.0, 0.0
        self.dropped = 0
        """losses that were refused"""

    def admits(self, loss: float) -> bool:
        """Whether a gradient with this loss may be pushed. A loss that is no finite number is not judged."""
        limit = self._limit()
        admitted = not loss > limit
        self._take_up(loss if admitted else limit)
        self.dropped += not admitted
        return admitted

    def _limit(self) -> float:
        if self._seen < WARM_UP:
            return float("inf")
        mean, square = self._mean / self._weight, self._square / self._weight
        return mean + self._deviations * sqrt(max(0.0, square - mean * mean))

    def _take_up(self, loss: float) -> None:
        if loss - loss != 0.0:  # inf or NaN
            return
        self._seen += 1
        self._weight = MEMORY * self._weight + 1
        self._mean = MEMORY * self._mean + loss
        self._square = MEMORY * self._square + loss * loss
