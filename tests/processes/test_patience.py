# SPDX-License-Identifier: Apache-2.0
"""Waiting only so long: what waits or loops is interrupted, and a timer that was set before goes on."""

import signal
import threading
import time

import pytest

from shoal.processes.patience import TooLong, at_most


def test_what_waits_for_ever_is_interrupted():
    with pytest.raises(TooLong), at_most(0.05):
        threading.Event().wait()


def test_what_loops_for_ever_is_interrupted():
    with pytest.raises(TooLong), at_most(0.05):
        while True:
            pass


def test_what_is_quick_is_left_alone():
    with at_most(30):
        pass
    handler = signal.getsignal(signal.SIGALRM)
    with at_most(30):
        pass
    assert signal.getsignal(signal.SIGALRM) is handler


def test_an_earlier_timer_goes_on_as_if_nothing_had_been():
    before = signal.setitimer(signal.ITIMER_REAL, 1000.0)
    try:
        for _ in range(50):
            with at_most(500.0):
                pass
        with at_most(500.0):
            time.sleep(0.2)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 0.0 < left <= 999.81
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_elsewhere_than_on_the_main_thread_it_does_nothing():
    seen = []

    def work():
        with at_most(0.01):
            time.sleep(0.05)
        seen.append("whole")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["whole"]
