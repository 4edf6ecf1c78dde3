# SPDX-License-Identifier: Apache-2.0
"""How much may be drawn for what was added: counting only, whoever counts does the waiting."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limiter:
    """Bounds on rows drawn for rows added, `ratio` to one on average.

    Before `start` rows are added nothing is drawn and nothing is owed. From then on each row that is added owes `ratio`
    draws. Draws may run `ahead` of what is owed, and adding waits once more than `behind` is owed and `start` is
    reached. With ahead = 0 and behind = ratio * (rows of an unroll) the two sides take turns; wide bounds let them run
    free, and None waits for nobody. Bounds of samples per insert are Reverb's (Cassirer et al. 2021, section 3).

    Check: if both sides obey, -ahead <= ratio * (added - start) - drawn <= behind + ratio * (rows of one add).
    """

    ratio: float
    start: int
    ahead: float | None = 0.0
    behind: float | None = None

    def owed(self, added: int, drawn: int) -> float:
        """Draws that are due; below 0 where draws are ahead."""
        return self.ratio * max(0, added - self.start) - drawn

    def may_draw(self, added: int, drawn: int, n: int) -> bool:
        """Whether n more rows may be drawn."""
        if added < self.start or added == 0:
            return False
        return self.ahead is None or self.owed(added, drawn) + self.ahead >= n

    def may_add(self, added: int, drawn: int) -> bool:
        """Whether another message may be added."""
        return self.behind is None or added < self.start or self.owed(added, drawn) <= self.behind
