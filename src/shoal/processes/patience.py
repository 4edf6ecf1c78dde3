# SPDX-License-Identifier: Apache-2.0
"""Wait for foreign code only so long, where that code runs in this process."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType


class TooLong(BaseException):
    """Raised inside code that took longer than it may; no `except Exception` of that code holds it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLong inside the block once it has taken so many seconds.

    It interrupts waiting and Python code, but not a loop in a compiled library, and works on the main thread only:
    elsewhere it does nothing. A timer that was set before goes on afterwards.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    handler = signal.signal(signal.SIGALRM, interrupt)
    began = monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (monotonic() - began)), interval)
