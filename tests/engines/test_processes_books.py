# SPDX-License-Identifier: Apache-2.0
"""What workers that are processes tell: notes, the time, and the seconds they spend."""

import time

import pytest

from engines import programs
from engines.running import PROCESSES, engine_of, workers_left
from engines.toys import a2c, impala
from engines.toys.parts import Config, Parts
from shoal.engines import now, phase, system

on_both = pytest.mark.parametrize("kind", PROCESSES)
pytestmark = pytest.mark.usefixtures("fresh_server")


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@on_both
def test_notes_reach_the_watcher_one_at_a_time(kind):
    inside, seen = [], []

    def watch(**metrics):
        assert not inside
        inside.append(1)
        seen.append((metrics["index"], metrics["value"]))
        inside.pop()

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 4, programs.note_things, channel)
            with pytest.raises(Exception, match="every actor of /s has ended"):
                channel.get(5)

    engine = engine_of(kind)
    engine.on_note = watch
    engine.run(program)
    assert sorted(seen) == [(index, 0.5) for index in (0, 1, 2, 3, 10, 11, 12, 13)]


@on_both
def test_a_process_has_the_clock_of_its_engine(kind):
    def program():
        phase("before", time.sleep, 0.1)
        with system("s", "learner") as s:
            channel = s.channel("TIME", "actor", "learner", 1)
            before = now()
            s.spawn("actor", 1, programs.tell_time, channel)
            return before, channel.get()[0], now()

    before, there, after = engine_of(kind).run(program)
    assert 0.1 <= before < there < after


@on_both
def test_timers_cover_phases_and_waits(kind):
    engine = engine_of(kind)
    engine.run(impala.run, Config(actors=2, updates=20, slots=1), Parts(jitter_s=0.002))
    assert set(engine.phases()) == {"actor", "learner"}
    assert engine.phases()["actor"]["unroll"] > 0.001
    assert engine.phases()["learner"]["update"] > 0
    assert set(engine.waits()["learner"]) == {"get TRAJ"}
    assert set(engine.waits().get("actor", {})) <= {"put TRAJ"}
    total, looks = engine.fill()["TRAJ"]
    assert 0 <= total <= looks > 0


@on_both
def test_seconds_are_summed_over_workers_wherever_they_are(kind, tmp_path):
    """In free order their phases overlap: none ends before all have begun. A worker's own clock is around its phase."""
    together = 1 if kind.endswith("fixed") else 4

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 4)
            s.spawn("actor", 4, programs.sleep_in_phases, channel, str(tmp_path), together)
            took = channel.get(4)
            with pytest.raises(Exception, match="every actor"):
                channel.get()
            return sum(took)

    engine = engine_of(kind)
    took = engine.run(program)
    assert 0.4 <= engine.phases()["actor"]["sleep"] <= took


def test_waits_are_timed_where_the_wire_is():
    """For as long as somebody is seen to wait, and no longer than a worker says."""
    seen = []

    def look():
        until = time.perf_counter() + 60
        while [w.waiting_in for w in list(engine._kernel.asleep)].count("pull PARAM") < 2:
            assert time.perf_counter() < until
            time.sleep(0.005)
        began = time.perf_counter()
        time.sleep(0.1)
        seen.append(time.perf_counter() - began)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            channel = s.channel("TRAJ", "actor", "learner", 4)
            s.spawn("actor", 2, programs.kept_waiting, channel, params)
            phase("look", look)
            params.publish(1)
            took = channel.get(2)
            with pytest.raises(Exception, match="every actor"):
                channel.get()
            return sum(took)

    engine = engine_of("processes")
    took = engine.run(program)
    assert 2 * seen[0] <= engine.waits()["actor"]["pull PARAM"] <= took
    assert engine.phases()["actor"]["short"] >= 0.1


@on_both
def test_a_worker_is_slowed_down_where_it_works(kind):
    """One phase of 0.1 s, and one of three times that."""

    def consume_some():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 4)
            s.spawn("actor", 2, programs.sleep_in_phases, channel)
            with pytest.raises(Exception, match="every actor"):
                channel.get(3)

    engine = engine_of(kind, slow={"actor/1": 3.0})
    engine.run(consume_some)
    assert engine.phases()["actor"]["sleep"] >= 0.4


def test_the_books_can_be_read_while_the_engine_runs():
    seen = []

    def visit(update, p):
        if update % 5 == 0:
            seen.append((engine.rows()[0]["count"], engine.phases()["actor"]["unroll"], engine.now()))
        return p

    engine = engine_of("processes")
    engine.run(a2c.run, Config(actors=2, updates=20), Parts(), None, visit)
    assert len(seen) == 4
    assert sorted(seen) == seen
