# SPDX-License-Identifier: Apache-2.0
"""How long a call takes when nothing else is asked of it, and how much of that time it computes.

For measurements outside a run; inside a run, work is timed by `phase`.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import psutil

THREADS = Path("/proc/self/task")
"""Linux: a folder per thread; `schedstat` in it holds nanoseconds run, nanoseconds ready but not run, turns"""
BLOCKS = 4
"""stretches of a measurement that are held beside one another"""


class Timing(NamedTuple):
    """Seconds of one call, over many."""

    calls: int
    median_s: float
    mean_s: float
    p99_s: float
    cpu_s: float
    """processor time of a mean call, summed over all threads of the process: 2 cores for 1 s are 2 s"""
    delay_s: float
    """of a mean call, over all threads: ready to run, but others had the cores; 0 where the system doesn't tell"""
    noise: float | None
    """how well measuring again agrees, as a share of the seconds: `half_spread` of a few blocks of calls, in what they
    would have taken undisturbed; None of a single call"""


class Together(NamedTuple):
    """Several loops beside one another on threads of this process."""

    calls_per_s: tuple[float, ...]
    """of each loop"""
    cpu: float
    """cores they kept busy"""
    wanted: float
    """cores they would have kept busy if others had not had them"""


class Usage(NamedTuple):
    """What all threads of this process had of the cores so far, in seconds."""

    cpu_s: float
    delay_s: float
    """ready to run, but others had the cores; 0 where the system doesn't tell"""


def usage() -> Usage:
    """So far; threads that have ended take their delay with them."""
    return Usage(process_time(), _delay_s())


def processor_s(pid: int) -> float:
    """Processor seconds that another process has had so far, over all its threads; 0 for one that is gone."""
    total = 0
    tasks = list(THREADS.parent.with_name(str(pid)).joinpath("task").glob("*/schedstat"))
    if not tasks:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            return times.user + times.system
    for path in tasks:
        with contextlib.suppress(OSError, IndexError, ValueError):  # the thread may have just ended
            total += int(path.read_text().split()[0])
    return total * 1e-9


def timed(fn: Callable, args: tuple) -> tuple[Any, float, float]:
    """Call once: (what it returns, seconds, processor seconds over all threads of the process)."""
    cpu, began = process_time(), perf_counter()
    value = fn(*args)
    spent = perf_counter() - began
    return value, spent, process_time() - cpu


class Stopwatch:
    """Real seconds since it was made."""

    def __init__(self):
        self._began = perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return perf_counter() - self._began


def measure(fn: Callable, *args: Any, seconds: float = 0.2, min_calls: int = 3, warm_up: int = 1) -> Timing:
    """Call fn(*args) again and again for `seconds`, at least `min_calls` times after `warm_up` calls that don't count.

    The calls come in BLOCKS blocks, one after the other, for what they differ by; in fewer where min_calls is less.

    Check: of a sleep, cpu_s is near 0; of a loop on an idle machine, cpu_s is near mean_s.
    """
    for _ in range(warm_up):
        fn(*args)
    spent: list[float] = []
    alone: list[float] = []
    cpu = delay = 0.0
    began = perf_counter()
    blocks = max(1, min(BLOCKS, min_calls))
    for block in range(1, blocks + 1):
        share, first, before = block / blocks, len(spent), usage()
        now = perf_counter()
        while now - began < share * seconds or len(spent) < max(first + 1, share * min_calls):
            start = now
            fn(*args)
            now = perf_counter()
            spent.append(now - start)
        after = usage()
        used, delayed = after.cpu_s - before.cpu_s, max(0.0, after.delay_s - before.delay_s)
        cpu, delay = cpu + used, delay + delayed
        alone.append(undisturbed(sum(spent[first:]), used, delayed) / (len(spent) - first))
    calls = len(spent)
    median, p99 = np.quantile(spent, (0.5, 0.99))
    return Timing(calls, float(median), sum(spent) / calls, float(p99), cpu / calls, delay / calls, half_spread(alone))


def undisturbed(wall_s: float, cpu_s: float, delay_s: float) -> float:
    """Seconds that a piece of work would have taken had no other program used the cores: the time in which it had
    nothing to compute, and its processor time.

    It is believed to need one core at least and no more: threads of one program delay one another too, which must not
    pass for others' doing. Exact for one thread; for several a bound from above.

    Check: where nothing delayed it, the seconds it took.
    """
    idle = max(0.0, wall_s - cpu_s - delay_s)
    return min(wall_s, idle + cpu_s)


def half_spread(values: Sequence[float]) -> float | None:
    """(largest - smallest) / 2, beside the median; None of fewer than two values, which cannot differ.

    Of four values that differ by chance this is about their standard deviation, twice that of their mean: so it leaves
    room for what changes more slowly than a measurement takes.

    Check: 0 where all are equal; 0.1 of 90, 100, 110; the same whatever the unit.
    """
    if len(values) < 2:
        return None
    return float((max(values) - min(values)) / 2 / max(float(np.median(values)), 1e-12))


def measure_together(fns: Sequence[Callable[[], Any]], seconds: float = 0.5) -> Together:
    """Call each function again and again on a thread of its own; raises what the first of them raises.

    Each runs at least once. Calls per second count from the common start to the end of that loop's last call.

    Check: two sleeps give each the rate of one; two loops in Python share one core.
    """
    rates = [0.0] * len(fns)
    faults: list[BaseException] = []
    start, finish = (threading.Barrier(len(fns) + 1) for _ in range(2))
    leave = threading.Event()

    def loop(index: int) -> None:
        calls = 0
        start.wait()
        began = perf_counter()
        try:
            while calls == 0 or (perf_counter() - began < seconds and not faults):
                fns[index]()
                calls += 1
        except BaseException as fault:  # noqa: BLE001 raised again below, on the caller's thread
            faults.append(fault)
        rates[index] = calls / (perf_counter() - began)
        finish.wait()
        leave.wait()  # a thread that ends takes its part of the system's books with it

    threads = [threading.Thread(target=loop, args=(i,), daemon=True) for i in range(len(fns))]
    for thread in threads:
        thread.start()
    before, began = usage(), perf_counter()
    start.wait()
    finish.wait()
    after, wall = usage(), perf_counter() - began
    leave.set()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    cpu = after.cpu_s - before.cpu_s
    return Together(tuple(rates), cpu / wall, (cpu + max(0.0, after.delay_s - before.delay_s)) / wall)


def _delay_s() -> float:
    """Seconds that threads of this process were ready but not running, so far."""
    total = 0
    for path in THREADS.glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # the thread may have just ended
            total += int(path.read_text().split()[1])
    return total * 1e-9
