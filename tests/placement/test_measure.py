# SPDX-License-Identifier: Apache-2.0
"""What is timed at which sizes, decided from made-up seconds."""

import pytest

from shoal import envs
from shoal.engines.clock import Timing, Together
from shoal.placement import measure, rounds
from shoal.placement.measure import RandomSteps, measure_env, with_a_core
from shoal.placement.rounds import Rounds


def made_up_timings(monkeypatch, step_s, reset_s):
    """Every call happens once, and took as long as is said."""

    def timing(fn, *_, **__):
        fn()
        seconds = reset_s if getattr(fn, "__func__", None) is RandomSteps.reset else step_s
        return Timing(1, seconds, seconds, seconds, seconds, 0.0, None)

    for module in (measure, rounds):
        monkeypatch.setattr(module, "measure", timing)


@pytest.mark.parametrize(
    ("step_s", "reset_s", "sizes"),
    [(1e-3, 1e-3, [1, 8, 32]), (0.03, 1e-3, [1, 8]), (1e-3, 0.4, [1, 8]), (1e-3, 2.0, [1, 8])],
)
def test_more_environments_are_timed_unless_they_would_take_too_long(monkeypatch, step_s, reset_s, sizes):
    made_up_timings(monkeypatch, step_s, reset_s)
    with Rounds() as kept:
        timings = measure_env(envs.resolve("toy:catch"), 8, 0.0, kept)
    assert [point.size for point in timings.step.points] == sizes
    assert (timings.reset.size, timings.reset.mean_s) == (8, reset_s)


def test_threads_that_had_less_than_a_core_are_counted_as_if_they_had_one():
    assert with_a_core(Together((60.0, 40.0), cpu=0.5, wanted=1.0)) == pytest.approx(200.0)
    assert with_a_core(Together((60.0, 40.0), cpu=0.5, wanted=2.0)) == pytest.approx(200.0)
    assert with_a_core(Together((60.0, 40.0), cpu=0.5, wanted=0.5)) == pytest.approx(100.0)
    assert with_a_core(Together((60.0, 40.0), cpu=1.5, wanted=2.0)) == pytest.approx(100.0)
