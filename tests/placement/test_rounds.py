# SPDX-License-Identifier: Apache-2.0
"""A second round of the same calls: the same seconds where nothing changed, stated noise where something did."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from placement.made_up import profile
from shoal.engines import clock
from shoal.engines.clock import Usage
from shoal.placement.rounds import Rounds, each_point


class Steps:
    """A call that takes as long as it is told, by a clock of its own."""

    now = 0.0
    length = 1.0

    def __call__(self):
        self.now += self.length


@pytest.fixture
def steps(monkeypatch):
    made = Steps()
    monkeypatch.setattr(clock, "perf_counter", lambda: made.now)
    monkeypatch.setattr(clock, "usage", lambda: Usage(made.now, 0.0))
    return made


def never():
    return False


def test_calls_that_take_the_same_have_the_same_seconds(steps):
    rounds = Rounds()
    made = replace(profile(), env_reset=rounds.time(8, steps, 4.0))
    again = rounds.again(made, never)
    assert again.env_reset.calls == 8
    assert again.env_reset.mean_s == 1.0
    assert again.env_reset.noise == 0.0
    assert replace(again, env_reset=made.env_reset) == made


def test_what_changed_between_the_rounds_is_noise(steps):
    rounds = Rounds()
    made = replace(profile(), estimate=rounds.time(1024, steps, 6.0))
    assert made.estimate.noise == 0.0
    steps.length = 1.5
    again = rounds.again(made, never).estimate
    assert again.calls == 6 + 4
    assert again.mean_s == pytest.approx(1.2)
    assert again.noise == pytest.approx(0.25 / 1.25)


def test_calls_for_which_there_is_no_time_stay_as_they_were(steps):
    rounds = Rounds()
    made = replace(profile(), estimate=rounds.time(1024, steps, 6.0))
    assert rounds.cost_s == 6.0
    assert rounds.again(made, lambda: True) == made


def test_calls_run_within_what_they_were_timed_in(steps):
    inside = []

    @contextmanager
    def device():
        inside.append("opened")
        yield
        inside.append("closed")

    rounds = Rounds()
    made = replace(profile(), estimate=rounds.time(1024, steps, 1.0, within=device))
    rounds.again(made, never)
    assert inside == ["opened", "closed"] * 2


def test_what_was_opened_is_closed_at_the_end():
    closed = []
    with pytest.raises(ValueError, match="broke"), Rounds() as rounds:
        rounds.open.callback(closed.append, "env")
        raise ValueError("broke")
    assert closed == ["env"]


def test_each_point_is_changed_once():
    made = profile(inference={"numpy": (1e-5, 1e-6), "gpu": (1e-4, 1e-8)}, transfer={})
    seen = []
    assert each_point(made, lambda p: seen.append(p) or p) == made
    assert len(seen) == 3 + 1 + 6 + 3 + 1 + 1
