# SPDX-License-Identifier: Apache-2.0
"""Timings tell waiting from computing, on one thread and on several."""

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from shoal.engines import clock
from shoal.engines.clock import (
    BLOCKS,
    Stopwatch,
    Together,
    Usage,
    half_spread,
    measure,
    measure_together,
    processor_s,
)
from shoal.placement import measure as measuring
from shoal.placement.measure import with_a_core
from shoal.placement.rounds import as_point


def spin(seconds):
    """Compute for so much processor time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.mark.alone
def test_a_real_sleep_and_a_real_loop_are_timed():
    asleep, busy = measure(time.sleep, 0.01, seconds=0.05), measure(spin, 0.01, seconds=0.05)
    assert asleep.median_s >= 0.01
    assert busy.cpu_s >= 0.0099  # a thread's own clock is not the one of its process
    for timing in (asleep, busy):
        assert 0 < timing.median_s <= timing.p99_s


def test_calls_are_counted_without_the_warm_up():
    seen = []
    timing = measure(lambda: seen.append(1), seconds=0.0, min_calls=4, warm_up=2)
    assert timing.calls == 4
    assert len(seen) == 6


def test_half_of_the_spread_beside_the_median():
    assert half_spread([90.0, 110.0, 100.0]) == pytest.approx(0.1)
    assert half_spread([0.09, 0.11, 0.1]) == pytest.approx(0.1)
    assert half_spread([5.0, 5.0, 5.0, 5.0]) == 0.0
    assert half_spread([5.0]) is half_spread([]) is None


class Clock:
    """A clock that a test moves, and the processor's books; nothing else runs."""

    now = cpu = delay = 0.0

    def sleep(self, seconds):
        self.now += seconds

    def compute(self, seconds, others=0.0):
        """For so long, and for so long others have the core."""
        self.now += seconds + others
        self.cpu += seconds
        self.delay += others


@pytest.fixture
def moved(monkeypatch):
    """The clock that measurements read."""
    made = Clock()
    monkeypatch.setattr(clock, "perf_counter", lambda: made.now)
    monkeypatch.setattr(clock, "usage", lambda: Usage(made.cpu, made.delay))
    return made


def test_a_sleep_waits_and_a_loop_computes(moved):
    asleep, busy = measure(moved.sleep, 0.25, seconds=2.0), measure(moved.compute, 0.25, seconds=2.0)
    assert (asleep.median_s, asleep.cpu_s, as_point(1, asleep).idle) == (0.25, 0.0, 1.0)
    assert (busy.median_s, busy.cpu_s, as_point(1, busy).idle) == (0.25, 0.25, 0.0)
    delayed = measure(moved.compute, 0.25, 0.75, seconds=2.0)
    assert (delayed.mean_s, delayed.cpu_s, delayed.delay_s, as_point(1, delayed).idle) == (1.0, 0.25, 0.75, 0.0)


def test_calls_that_take_the_same_agree(moved):
    timing = measure(moved.sleep, 0.25, seconds=8.0)
    assert timing.calls == 32
    assert timing.mean_s == timing.median_s == 0.25
    assert timing.noise == 0.0


def test_noise_is_what_blocks_of_calls_differ_by(moved):
    """Four blocks of one call each, of 1, 2, 3 and 2 s: half of what they differ by is 1 s, their median 2 s."""
    lengths = iter((1.0, 2.0, 3.0, 2.0))
    timing = measure(lambda: moved.sleep(next(lengths)), seconds=0.0, min_calls=BLOCKS, warm_up=0)
    assert timing.calls == BLOCKS
    assert timing.mean_s == 2.0
    assert timing.noise == pytest.approx(0.5)


def test_blocks_average_calls_that_take_turns(moved):
    """Calls of 1 and 3 s in turn: every block has as many of each, so that measuring again agrees."""
    lengths = itertools.cycle((1.0, 3.0))
    timing = measure(lambda: moved.sleep(next(lengths)), seconds=64.0, warm_up=0)
    assert timing.calls == 32
    assert timing.noise == pytest.approx(0.0)


def test_what_others_took_is_no_noise(moved):
    """One call a block, of 1 or 2 s; in the long ones others had the core for 1 s."""
    others = iter((0.0, 1.0, 0.0, 1.0))
    timing = measure(lambda: moved.compute(1.0, next(others)), seconds=0.0, min_calls=BLOCKS, warm_up=0)
    assert (timing.mean_s, timing.cpu_s, timing.delay_s) == (1.5, 1.0, 0.5)
    assert timing.noise == pytest.approx(0.0)


def test_of_one_call_nobody_knows(moved):
    assert measure(moved.sleep, 1.0, seconds=0.0, min_calls=1).noise is None


def test_one_loop_has_the_rate_and_the_cores_of_its_calls(moved):
    """Ten calls of 0.25 s; others had the core for 0.05 s of each."""
    together = measure_together([lambda: moved.compute(0.1875, 0.0625)], seconds=2.5)
    assert together == Together((4.0,), cpu=0.75, wanted=1.0)


def test_loops_run_beside_one_another():
    """Each loop's first call ends only once the other's has begun."""
    meet = threading.Barrier(2)

    def call(times=itertools.count()):  # noqa: B008 counts the calls of both loops
        if next(times) < 2:
            meet.wait(60)

    together = measure_together([call] * 2, seconds=0.0)
    assert len(together.calls_per_s) == 2
    assert min(together.calls_per_s) > 0
    assert together.wanted >= together.cpu >= 0


@pytest.mark.slow
@pytest.mark.alone
def test_loops_in_python_take_turns():
    """What Python's lock does to two loops shows in measured seconds only."""
    alone = measure_together([lambda: spin(0.005)], seconds=0.3)
    both = measure_together([lambda: spin(0.005)] * 2, seconds=0.3)
    assert len(alone.calls_per_s) == 1
    assert alone.wanted > 0.7
    assert both.cpu < 1.3
    assert with_a_core(both) / with_a_core(alone) < 1.4


def test_what_this_process_computes_is_not_blamed_on_others(monkeypatch):
    """In one second on two cores the machine computed 1.5 s, of which we did 1 s: others used a quarter."""
    busy, own, wall = iter((10.0, 11.5)), iter((3.0, 4.0)), 1.0
    monkeypatch.setattr(measuring, "machine_busy_s", lambda: next(busy))
    monkeypatch.setattr(measuring, "usage", lambda: Usage(next(own), 0.0))
    monkeypatch.setattr(measuring.Stopwatch, "seconds", lambda _: wall)
    monkeypatch.setattr(measuring, "usable_cores", lambda: 2.0)
    monkeypatch.setattr(measuring.psutil, "cpu_count", lambda: 2)
    assert measuring.Neighbours().share() == pytest.approx(0.25)


def test_machine_time_grows_while_we_compute():
    """By ticks of 10 ms, which may fall on somebody else's turn."""
    before, watch = measuring.machine_busy_s(), Stopwatch()
    while measuring.machine_busy_s() <= before:
        spin(0.05)
        assert watch.seconds() < 60


def test_a_failing_loop_ends_the_others_and_is_raised():
    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        measure_together([lambda: time.sleep(0.01), fail], seconds=1e9)


def test_processor_time_of_another_process_is_what_it_computed():
    """Of this one, what it says itself; of one that is gone, nothing."""
    before, own = processor_s(os.getpid()), time.process_time()
    spin(0.5)
    more, mine = processor_s(os.getpid()) - before, time.process_time() - own
    assert more == pytest.approx(mine, abs=0.2)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert processor_s(gone.pid) == 0.0
