# SPDX-License-Identifier: Apache-2.0
"""A page that a child shares with its launcher: a request to stop one way, what the child is doing the other.

Read when it matters: when the child has died or does not move any more. Writing costs well under a microsecond, and
each word has one writer.
"""

from typing import NamedTuple

from shoal.processes.memory import Segment

SIZE = 4096
STOP, MOVES, ENV, SEED, STEP = range(5)
NAME_AT, NAME_SIZE = 128, 64


class InEnv(NamedTuple):
    """The call of an environment that a child is in."""

    index: int
    seed: int
    step: int


class Status:
    """Both sides' view of the page."""

    def __init__(self, segment: Segment):
        self.segment = segment
        self._words = memoryview(segment.map).cast("B")[:64].cast("q")
        self._name = memoryview(segment.map).cast("B")[NAME_AT : NAME_AT + NAME_SIZE]
        self._names: dict[str, bytes] = {}

    @classmethod
    def create(cls) -> "Status":
        """A new page. Raises MemoryShort."""
        return cls(Segment.create(SIZE, "a worker's status"))

    @property
    def stop(self) -> bool:
        """Whether the child is asked to end."""
        return bool(self._words[STOP])

    def ask_to_stop(self) -> None:
        """The launcher's word."""
        self._words[STOP] = 1

    @property
    def moves(self) -> int:
        """Grows with every piece of work that the child begins or ends."""
        return self._words[MOVES]

    def begin(self, name: str) -> None:
        """The child begins a piece of work."""
        text = self._names.get(name)
        if text is None:
            text = self._names[name] = name.encode()[:NAME_SIZE].ljust(NAME_SIZE, b"\0")
        self._name[:] = text
        self._words[MOVES] += 1

    def end(self) -> None:
        """It has ended."""
        self._name[0] = 0
        self._words[MOVES] += 1

    def go_on(self) -> None:
        """The child waits for processes that it watches itself: it is not stuck."""
        self._words[MOVES] += 1

    @property
    def busy(self) -> str:
        """The piece of work that the child is in, or nothing."""
        return bytes(self._name).split(b"\0")[0].decode(errors="replace")

    def enter_env(self, index: int, seed: int, step: int) -> None:
        """The child calls into an environment."""
        words = self._words
        words[SEED], words[STEP], words[ENV] = seed, step, index + 1
        words[MOVES] += 1

    def leave_env(self) -> None:
        """It is back."""
        self._words[ENV] = 0

    @property
    def env(self) -> InEnv | None:
        """The environment call that the child is in."""
        words = self._words
        return InEnv(words[ENV] - 1, words[SEED], words[STEP]) if words[ENV] else None


mine: Status | None = None
"""this process's page, in a child"""


def adopt(descriptor: int) -> Status:
    """In a child: take up the page that came with the launch."""
    global mine  # one page a process, by its nature
    mine = Status(Segment(descriptor, SIZE))
    return mine
