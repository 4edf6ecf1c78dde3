# SPDX-License-Identifier: Apache-2.0
"""How long something has not moved, and whether it is time to look again: clocks for those who watch over children."""

from time import monotonic


class Stillness:
    """Of one child, by a number that changes with every move of it."""

    def __init__(self):
        self._moves: int | None = None
        self._since = 0.0

    def begin(self) -> None:
        """From now on it has something to do: what was before does not count."""
        self._moves = None

    def seconds(self, moves: int) -> float:
        """Seconds since the number was first seen as it is now.

        Check: 0 after every change and every `begin`.
        """
        now = monotonic()
        if moves != self._moves:
            self._moves, self._since = moves, now
        return now - self._since


class Every:
    """Whether so many seconds have passed since it was last said."""

    def __init__(self, seconds: float):
        self._seconds, self._next = seconds, 0.0

    def due(self) -> bool:
        """True at first, and then once in every so many seconds that somebody asks."""
        now = monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Deadline:
    """A point in time."""

    def __init__(self, seconds: float):
        self._at = monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, 0 when it has passed."""
        return max(0.0, self._at - monotonic())
