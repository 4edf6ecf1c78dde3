# SPDX-License-Identifier: Apache-2.0
"""The ledger: what really crossed between roles, by wire.

A row exists from the wire's declaration on, with count 0, so a system can be described before it has run. The
receiving side counts, when it has the message in hand; bytes are taken when it is sent. Wires update rows under the
engine's lock; readers take a snapshot without one.
"""

from collections.abc import Callable
from typing import Any


class Row:
    """Messages of one kind from one role to another by one route."""

    __slots__ = ("bytes", "count", "lag_count", "lag_max", "lag_sum", "message", "source", "system", "target", "via")

    def __init__(self, system: str, source: str, target: str, message: str, via: str):
        self.system, self.source, self.target, self.message, self.via = system, source, target, message, via
        self.count = self.bytes = self.lag_count = self.lag_sum = 0
        self.lag_max: int | None = None

    def add(self, nbytes: int, lag: int | None = None) -> None:
        """Count one message; lag in versions, or None where the wire knows no versions."""
        self.count += 1
        self.bytes += nbytes
        if lag is not None:
            self.lag_count += 1
            self.lag_sum += lag
            if self.lag_max is None or lag > self.lag_max:
                self.lag_max = lag

    def add_many(self, count: int, nbytes: int, lags: tuple[int, int] | None = None) -> None:
        """Count messages of `nbytes` each; their lags as (sum, largest), or None where the wire knows no versions."""
        self.count += int(count)
        self.bytes += int(count) * nbytes
        if lags is not None:
            self.lag_count += int(count)
            self.lag_sum += int(lags[0])
            self.lag_max = max(self.lag_max or 0, int(lags[1]))

    def add_sums(self, count: int, nbytes: int, lag_count: int, lag_sum: int, lag_max: int) -> None:  # noqa: PLR0913
        """Count messages of so many bytes together; of those that carried a version, their number, the sum of their
        lags and the largest."""
        self.count += count
        self.bytes += nbytes
        if lag_count:
            self.lag_count += lag_count
            self.lag_sum += lag_sum
            if self.lag_max is None or lag_max > self.lag_max:
                self.lag_max = lag_max

    def as_dict(self) -> dict[str, Any]:
        """The row as written to flow.json. Lags are None where no message carried a version."""
        return {
            "system": self.system,
            "source": self.source,
            "target": self.target,
            "message": self.message,
            "via": self.via,
            "count": self.count,
            "bytes": self.bytes,
            "lag_mean": self.lag_sum / self.lag_count if self.lag_count else None,
            "lag_max": self.lag_max,
        }


ANY_ROLE = "*"
"""Target of a store's row while nobody has pulled from it: the puller's role is only known then."""


class Ledger:
    """All rows of an engine, and what channels saw: how full they were and what they dropped."""

    def __init__(self):
        self._rows: dict[tuple[str, str, str, str, str], Row] = {}
        self._fill: dict[str, list[float]] = {}
        self._asked: list[Callable[[], None]] = []
        self.dropped: dict[str, int] = {}
        self.lost: dict[str, int] = {}
        """by message, items that lay on nodes which are gone"""

    def row(self, system: str, source: str, target: str, message: str, via: str) -> Row:
        """The row of these five names, made when new. Systems entered again go on with the same rows."""
        key = (system, source, target, message, via)
        return self._rows.setdefault(key, Row(*key))

    def ask_before_reading(self, settle: Callable[[], None]) -> None:
        """Have a wire that counts elsewhere bring its rows up to date before anybody reads them."""
        self._asked.append(settle)

    def ask_no_more(self, settle: Callable[[], None]) -> None:
        """The wire has counted all that it will."""
        self._asked.remove(settle)

    def rows(self) -> list[dict[str, Any]]:
        """Snapshot, in order of declaration. A row without messages is left out where a more exact one has some."""
        for settle in list(self._asked):
            settle()
        rows = list(self._rows.values())
        counted = {(r.system, r.source, r.target, r.message) for r in rows if r.count}
        named = {(r.system, r.source, r.message) for r in rows if r.target != ANY_ROLE}

        def told_better(r: Row) -> bool:
            by_route = (r.system, r.source, r.target, r.message) in counted
            by_role = r.target == ANY_ROLE and (r.system, r.source, r.message) in named
            return by_route or by_role

        return [r.as_dict() for r in rows if r.count or not told_better(r)]

    def saw_fill(self, message: str, fraction: float) -> None:
        """A consumer came and found its channel this full (0 to 1)."""
        cell = self._fill.get(message)
        if cell is None:
            cell = self._fill[message] = [0.0, 0]
        cell[0] += fraction
        cell[1] += 1

    def saw_drop(self, message: str) -> None:
        """An item was thrown away unread."""
        self.dropped[message] = self.dropped.get(message, 0) + 1

    def saw_loss(self, message: str) -> None:
        """An item is gone with the node that it lay on."""
        self.lost[message] = self.lost.get(message, 0) + 1

    def fill(self) -> dict[str, tuple[float, int]]:
        """By message, the sum of what consumers found, and how often they came."""
        return {message: (total, int(count)) for message, (total, count) in list(self._fill.items())}
