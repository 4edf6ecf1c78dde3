# SPDX-License-Identifier: Apache-2.0
"""Locks on the chunks of a shared vector, taken without waiting: who finds one held tries another one first."""

import errno
import fcntl
import threading
from typing import Protocol


class ChunkLocks(Protocol):
    """What the holder of a chunk needs."""

    def take(self, chunk: int) -> bool:
        """Whether it was free and is now ours."""
        ...

    def give(self, chunk: int) -> None:
        """It is free again."""
        ...


class ThreadLocks:
    """Between threads of one process."""

    def __init__(self, count: int):
        self._locks = [threading.Lock() for _ in range(count)]

    def take(self, chunk: int) -> bool:
        return self._locks[chunk].acquire(blocking=False)

    def give(self, chunk: int) -> None:
        self._locks[chunk].release()


class RangeLocks:
    """Between processes, one holder in each: byte ranges of a file, which the kernel frees when a holder dies.

    They belong to the process, so they keep out no other thread of it; and they are lost when the process closes any
    descriptor of that file, so this is the only one it keeps.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def take(self, chunk: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, chunk)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def give(self, chunk: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, chunk)


class NoLocks:
    """Where nothing runs beside the holder."""

    def take(self, chunk: int) -> bool:
        return True

    def give(self, chunk: int) -> None:
        pass
