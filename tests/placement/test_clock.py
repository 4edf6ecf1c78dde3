# SPDX-License-Identifier: Apache-2.0
"""Timings tell waiting from computing, on one thread and on several."""

import itertools
import os
import subprocess
import sys
import time

import pytest

from shoal.engines import clock
from shoal.engines.clock import BLOCKS, Stopwatch, Usage, half_spread, measure, measure_together, processor_s
from shoal.placement import measure as measuring
from shoal.placement.measure import with_a_core
from shoal.placement.rounds import as_point


def spin(seconds):
    """Compute for so much processor time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.mark.alone
def test_a_sleep_waits():
    timing = measure(time.sleep, 0.01, seconds=0.1)
    assert timing.median_s == pytest.approx(0.01, rel=0.5)
    assert timing.median_s >= 0.01
    assert as_point(1, timing).idle > 0.7


@pytest.mark.alone
def test_a_loop_computes():
    timing = measure(spin, 0.01, seconds=0.1)
    assert timing.cpu_s == pytest.approx(0.01, rel=0.3)
    assert as_point(1, timing).idle < 0.3
    assert timing.median_s <= timing.p99_s


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
    """A clock that a test moves; nothing else runs."""

    now = 0.0

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def moved(monkeypatch):
    """The clock that measurements read."""
    made = Clock()
    monkeypatch.setattr(clock, "perf_counter", lambda: made.now)
    monkeypatch.setattr(clock, "usage", lambda: Usage(0.0, 0.0))
    return made


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


def test_what_others_took_is_no_noise(moved, monkeypatch):
    """One call a block, of 1 or 2 s; in the long ones others had the core for 1 s."""
    lengths, books = iter((1.0, 2.0, 1.0, 2.0)), [0.0, 0.0]

    def call():
        length = next(lengths)
        moved.sleep(length)
        books[0], books[1] = books[0] + 1.0, books[1] + length - 1.0

    monkeypatch.setattr(clock, "usage", lambda: Usage(*books))
    timing = measure(call, seconds=0.0, min_calls=BLOCKS, warm_up=0)
    assert (timing.mean_s, timing.cpu_s, timing.delay_s) == (1.5, 1.0, 0.5)
    assert timing.noise == pytest.approx(0.0)


def test_of_one_call_nobody_knows(moved):
    assert measure(moved.sleep, 1.0, seconds=0.0, min_calls=1).noise is None


@pytest.mark.alone
def test_sleeps_run_beside_one_another():
    together = measure_together([lambda: time.sleep(0.02)] * 2, seconds=0.2)
    assert len(together.calls_per_s) == 2
    assert min(together.calls_per_s) > 20
    assert together.cpu < 0.7


@pytest.mark.alone
def test_loops_in_python_take_turns():
    alone = measure_together([lambda: spin(0.005)], seconds=0.3)
    both = measure_together([lambda: spin(0.005)] * 2, seconds=0.3)
    assert len(alone.calls_per_s) == 1
    assert sum(both.calls_per_s) > 0
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
    before = measuring.machine_busy_s()
    spin(0.1)
    assert measuring.machine_busy_s() > before


def test_a_failing_loop_ends_the_others_and_is_raised():
    def fail():
        raise ValueError("broken")

    watch = Stopwatch()
    with pytest.raises(ValueError, match="broken"):
        measure_together([lambda: time.sleep(0.01), fail], seconds=30.0)
    assert watch.seconds() < 10


def test_processor_time_of_another_process_is_what_it_computed():
    """Of this one, what it says itself; of one that is gone, nothing."""
    before, own = processor_s(os.getpid()), time.process_time()
    spin(0.05)
    more, mine = processor_s(os.getpid()) - before, time.process_time() - own
    assert more == pytest.approx(mine, abs=0.02)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert processor_s(gone.pid) == 0.0
