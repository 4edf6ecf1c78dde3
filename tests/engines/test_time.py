# SPDX-License-Identifier: Apache-2.0
"""Time: costs, slow workers, timers, and what each engine's clock says."""

import threading
import time

import numpy as np
import pytest

from engines.running import FIXED, KINDS, engine_of, row
from engines.toys import a2c, impala, seed
from engines.toys.parts import Config, Parts
from shoal.engines import now, phase, system
from shoal.errors import ConfigError

COSTS = {"unroll": 0.010, "update": 0.001}


def nothing(*args):
    """Work that costs only what the table says."""


def updates_per_second(toy, config, slow):
    """Up to the last update: leaving then waits for the slow actor's unroll, as it would in real time."""
    ends = []
    engine = engine_of("simulated", costs=COSTS, slow=slow)
    engine.run(toy.run, config, Parts(), None, lambda update, p: ends.append(now()) or p)
    return config.updates / ends[-1]


def test_a_slow_actor_sets_a2cs_pace_and_costs_impala_only_its_share():
    """Virtual time is exact: A2C's cycle is the slowest unroll and an update; IMPALA's actors add up their rates."""
    a2c_config, impala_config = Config(actors=4, updates=100), Config(actors=4, updates=400, batch=1, slots=8)
    slow = {"actor/0": 5.0}
    assert updates_per_second(a2c, a2c_config, None) == pytest.approx(1 / 0.011)
    assert updates_per_second(a2c, a2c_config, slow) == pytest.approx(1 / 0.051)
    assert updates_per_second(impala, impala_config, None) == pytest.approx(4 / 0.010, rel=0.02)
    assert updates_per_second(impala, impala_config, slow) == pytest.approx(3.2 / 0.010, rel=0.02)


class OneHeldUp(Parts):
    """The first actor's unrolls end when they may, and are counted."""

    def __init__(self, may_end):
        super().__init__()
        self.ended, self.in_time, self._may_end = 0, True, may_end

    def unroll(self, params, index, count):
        if index == 0:
            self.in_time = self._may_end() and self.in_time
            self.ended += 1
        return super().unroll(params, index, count)


def test_on_threads_a2c_waits_for_a_slow_actor_and_impala_does_not():
    """IMPALA's learner makes all of its updates within the slow actor's first unroll; A2C's never makes one more than
    that actor has made unrolls."""
    goes_on, ahead, ended = threading.Event(), [], []

    def visit(update, p):
        if update == impala_config.updates - 1:
            ended.append(parts.ended)
            goes_on.set()
        return p

    impala_config = Config(actors=4, updates=50, batch=1, slots=8)
    parts = OneHeldUp(lambda: goes_on.wait(60))
    engine_of("threads").run(impala.run, impala_config, parts, None, visit)
    assert parts.in_time
    assert ended == [0]
    slow = OneHeldUp(lambda: time.sleep(0.004) is None)
    a2c_config = Config(actors=4, updates=10)
    engine_of("threads").run(a2c.run, a2c_config, slow, None, lambda update, p: ahead.append(slow.ended - update) or p)
    assert min(ahead) >= 1


def test_a_slow_worker_on_threads_sleeps_on():
    def sleeper(index, channel):
        channel.put(phase("sleep", time.sleep, 0.02))

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, sleeper, channel)
            channel.get()

    engine = engine_of("threads", slow={"actor/0": 5.0})
    engine.run(program)
    assert engine.phases()["actor"]["sleep"] >= 0.1


@pytest.mark.parametrize("kind", ["threads", "threads-fixed"])
def test_phases_of_different_workers_overlap_in_real_time(kind):
    """Four phases end only when all have begun; each is timed for itself."""
    meet = threading.Barrier(4)

    def meet_and_sleep():
        meet.wait(60)
        time.sleep(0.05)

    def sleeper(index, channel):
        channel.put(phase("sleep", meet_and_sleep))

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 4)
            s.spawn("actor", 4, sleeper, channel)
            channel.get(4)

    engine = engine_of(kind)
    engine.run(program)
    assert 0.2 <= engine.phases()["actor"]["sleep"] <= 4 * engine.now()


def test_simulated_time_is_the_critical_path():
    def worker(index, channel):
        for _ in range(3):
            phase("work", nothing, index)
            channel.put(now())

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 9)
            s.spawn("actor", 2, worker, channel)
            times = channel.get(6)
            phase("rest", nothing)
            return times, now()

    engine = engine_of("simulated", costs={"work": lambda index: 1.0 + index, "rest": 0.5}, slow={"actor": 2.0})
    times, end = engine.run(program)
    assert times == [2.0, 4.0, 4.0, 6.0, 8.0, 12.0]
    assert end == engine.now() == 12.5
    assert engine.phases() == {"actor": {"work": 18.0}, "learner": {"rest": 0.5}}
    assert engine.waits()["learner"]["get TRAJ"] == 12.0


def test_a_simulated_phase_calls_its_function_first():
    calls = []

    def program():
        with system("s", "body"):
            phase("work", calls.append, 1)
            return now()

    assert engine_of("simulated", costs={"work": 3.0}).run(program) == 3.0
    assert calls == [1]


def test_messages_cost_what_the_table_says():
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.zeros(10))
            channel = s.channel("TRAJ", "learner", "learner", 1)
            params.pull()
            params.pull()  # not new: nothing moves
            channel.put(np.zeros(5))
            return now()

    costs = {"*": 0.0, "pull PARAM": lambda nbytes, _: nbytes / 80, "put TRAJ": 0.25}
    assert engine_of("simulated", costs=costs).run(program) == 1.25


def test_message_costs_of_a_service_slow_it_down():
    config = Config(actors=2, updates=5)

    def duration(extra):
        engine = engine_of("simulated", costs={"*": 0.001, **extra})
        engine.run(seed.run, config, Parts())
        return engine.now()

    assert duration({"send OBS": 0.001, "reply ACT": 0.001}) > 1.2 * duration({})


def test_a_push_is_charged_as_a_phase():
    def rule(params, moments, grad, rate):
        params -= grad

    def program():
        with system("s", "body") as s:
            vector = s.vector("parameter_server", np.ones(2), rule)
            vector.push(np.ones(2), 0)
            return now()

    engine = engine_of("simulated", costs={"push": 2.0})
    assert engine.run(program) == 2.0
    assert engine.phases() == {"body": {"push": 2.0}}


def test_a_phase_missing_from_the_table_is_named():
    with pytest.raises(ConfigError, match="phase 'update' has no cost"):
        engine_of("simulated", costs={"unroll": 1.0}).run(a2c.run, Config(), Parts())


@pytest.mark.parametrize("kind", FIXED)
def test_costs_decide_the_order_of_a_fixed_run(kind):
    """With one actor three times as slow in virtual time, the other delivers three times as much."""

    def worker(index, channel):
        while True:
            channel.put(phase("work", lambda i: i, index))

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 100)
            s.spawn("actor", 2, worker, channel)
            return channel.get(16)

    got = engine_of(kind, costs={"work": lambda index: 3.0 if index else 1.0}).run(program)
    assert got == [0, 0, 0, 1] * 4 or got == [0, 0, 1, 0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_timers_cover_phases_and_waits(kind):
    engine = engine_of(kind)
    engine.run(impala.run, Config(actors=2, updates=20, slots=1), Parts(jitter_s=0.002 if "thr" in kind else 0))
    assert set(engine.phases()) == {"actor", "learner"}
    assert engine.phases()["actor"]["unroll"] > 0
    assert engine.phases()["learner"]["update"] > 0
    assert set(engine.waits()["learner"]) == {"get TRAJ"}
    total, looks = engine.fill()["TRAJ"]
    assert 0 <= total <= looks > 0
    assert engine.fill() == {"TRAJ": (total, looks)}  # a look changes nothing
    assert engine.now() > 0


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_the_books_can_be_read_while_the_engine_runs(kind):
    seen = []

    def visit(update, p):
        if update % 5 == 0:
            seen.append((row(engine, "TRAJ")["count"], engine.phases()["learner"]["update"], engine.now()))
        return p

    engine = engine_of(kind)
    engine.run(a2c.run, Config(actors=2, updates=20), Parts(), None, visit)
    assert [count for count, _, _ in seen] == [2, 12, 22, 32]
    assert sorted(seen) == seen


def test_workers_that_ended_leave_their_seconds():
    def short(index):
        phase("work", nothing)

    def program():
        for _ in range(3):
            with system("s", "learner") as s:
                s.spawn("actor", 2, short)
                ended = s.channel("X", "actor", "learner", 1)
                with pytest.raises(Exception, match="every actor"):
                    ended.get()

    engine = engine_of("simulated")
    engine.run(program)
    assert engine.phases()["actor"]["work"] == pytest.approx(6 * 0.001)
