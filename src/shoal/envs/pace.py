# SPDX-License-Identifier: Apache-2.0
"""Spend time on purpose, asleep or at work: the one module outside the engines that may import `time`.

It belongs to a toy simulator and measures no work of ours; everything else is timed by the engines' `phase`.
"""

import functools
import time

CALIBRATION_UNITS = 20_000
CALIBRATION_RUNS = 5


def spend(seconds: float, busy: bool) -> None:
    """Sleep, or do the work that takes `seconds` on a core of its own.

    Busy time is a fixed amount of work, not a deadline: two workers that share a core take twice as long, as
    simulators would. It holds the interpreter's lock, as a simulator written in Python does.
    """
    if seconds <= 0:
        return
    if busy:
        work(max(1, round(seconds * units_per_s())))
    else:
        time.sleep(seconds)


def work(units: int) -> int:
    """Do so many units of arithmetic; the result only keeps them from being optimised away."""
    x = 1
    for _ in range(units):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


@functools.cache
def units_per_s() -> float:
    """Units of work this process does in a second: the fastest of a few short runs, measured once."""
    fastest = float("inf")
    for _ in range(CALIBRATION_RUNS):
        began = time.perf_counter()
        work(CALIBRATION_UNITS)
        fastest = min(fastest, time.perf_counter() - began)
    return CALIBRATION_UNITS / fastest
