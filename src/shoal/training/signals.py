# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM: the first asks the run to save and stop, the second leaves at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class SignalWatch:
    """Within it a first SIGINT or SIGTERM calls `ask_to_stop` and is remembered; a second ends the process.

    Handlers only set flags: they may run between any two bytecodes of the main thread, so they must take no lock.
    Outside the main thread signals cannot be caught, and nothing is installed.
    """

    def __init__(self, ask_to_stop: Callable[[str], None], restore_terminal: Callable[[], None]):
        self._ask, self._restore = ask_to_stop, restore_terminal
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """0, or the code of the signal that came."""
        return 0 if self.received is None else EXIT_CODES[self.received]

    def __enter__(self) -> "SignalWatch":
        try:
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._handle)
        except ValueError:
            pass  # not the main thread
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self._restore()
            os._exit(EXIT_CODES[signal.Signals(number)])
        self.received = signal.Signals(number)
        self._ask(self.received.name)
