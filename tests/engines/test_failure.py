# SPDX-License-Identifier: Apache-2.0
"""Failing workers and deadlocks on every engine: who is named, what survives."""

import pytest

from engines.running import KINDS, engine_of, workers_left
from shoal.engines import Deadlock, Ended, RoleFailed, me, phase, system
from shoal.errors import EnvironmentFault, HangError

on_every_engine = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def produce(index, channel):
    while True:
        channel.put(phase("work", lambda: index))


def fail_at(index, channel, bad, error):
    for _ in range(3):
        channel.put(phase("work", lambda: index))
    if index == bad:
        raise error
    while True:
        channel.put(phase("work", lambda: index))


def consume_for_ever(count, fn, *args, **policy):
    with system("inner", "learner") as s:
        channel = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", count, fn, channel, *args, **policy)
        while True:
            channel.get()


def raise_always(budget):
    def worker(index, channel):
        if index == 1:
            raise ValueError("for good")
        produce(index, channel)

    consume_for_ever(2, worker, on_failure="restart", budget=budget)


@on_every_engine
def test_a_raising_worker_fails_the_run(kind):
    error = EnvironmentFault("reset returned None")
    with pytest.raises(RoleFailed) as caught:
        engine_of(kind).run(consume_for_ever, 3, fail_at, 1, error)
    failed = caught.value
    assert (failed.path, failed.role, failed.index, failed.exit_code) == ("/inner", "actor", 1, 3)
    assert str(failed) == "/inner actor/1 failed: EnvironmentFault: reset returned None"
    assert failed.__cause__ is error


@on_every_engine
def test_an_error_shoal_does_not_know_is_one_line_and_exit_code_1(kind):
    with pytest.raises(RoleFailed) as caught:
        engine_of(kind).run(consume_for_ever, 1, fail_at, 0, ValueError("first\n  second"))
    assert str(caught.value) == "/inner actor/0 failed: ValueError: first second"
    assert caught.value.exit_code == 1


@on_every_engine
def test_failure_inside_nesting_names_the_whole_way(kind):
    def member(index, channel):
        consume_for_ever(2, fail_at, 1 if index == 1 else None, EnvironmentFault("bad"))

    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 3, member, channel)
            channel.get()

    with pytest.raises(RoleFailed) as caught:
        engine_of(kind).run(program)
    outer = caught.value
    assert str(outer) == "/pbt/inner actor/1 in /pbt member/1 failed: EnvironmentFault: bad"
    assert outer.inside == (("/pbt", "member", 1),)
    assert outer.exit_code == 3
    assert isinstance(outer.__cause__, RoleFailed)
    assert isinstance(outer.__cause__.__cause__, EnvironmentFault)


@on_every_engine
def test_a_failure_can_be_caught_around_the_system(kind):
    def program():
        for bad in (0, None):
            try:
                with system("s", "learner") as s:
                    channel = s.channel("TRAJ", "actor", "learner", 2)
                    s.spawn("actor", 2, fail_at, channel, bad, ValueError("x"))
                    got = channel.get(40)
            except RoleFailed:
                continue
        return len(got)

    assert engine_of(kind).run(program) == 40


@on_every_engine
def test_the_bodys_own_error_arrives_as_it_is(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, produce, channel)
            channel.get()
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine_of(kind).run(program)


@on_every_engine
def test_restart_calls_anew_with_the_next_epoch_within_the_budget(kind):
    def flaky(index, channel):
        channel.put((index, me().epoch))
        if index == 0 and me().epoch < 2:
            raise ValueError("again")

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, flaky, channel, on_failure="restart", budget=2)
            return channel.get(4)

    engine = engine_of(kind)
    assert sorted(engine.run(program)) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert engine.losses() == [
        "/s actor/0 (epoch 0) restarted: ValueError: again",
        "/s actor/0 (epoch 1) restarted: ValueError: again",
    ]


@on_every_engine
def test_an_exhausted_budget_fails(kind):
    with pytest.raises(RoleFailed, match="/inner actor/1 failed: ValueError: for good"):
        engine_of(kind).run(raise_always, 2)


@on_every_engine
def test_a_dropped_worker_is_missed_by_nobody_until_all_are_gone(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, fail_at, channel, 1, ValueError("gone"), on_failure="drop")
            while not engine.losses():
                channel.get()
            return len(channel.get(30))

    engine = engine_of(kind)
    assert engine.run(program) == 30
    assert engine.losses() == ["/s actor/1 (epoch 0) dropped: ValueError: gone"]

    with pytest.raises(Ended, match="get TRAJ: every actor of /inner has ended"):
        engine_of(kind).run(lambda: consume_for_ever(1, fail_at, 0, ValueError("gone"), on_failure="drop"))


@on_every_engine
def test_a_deadlock_names_who_waits_for_what(kind):
    def wait(index, params):
        params.pull(at_least=3)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 3, wait, params)
            channel.get(2)

    with pytest.raises(Deadlock) as caught:
        engine_of(kind).run(program)
    text = str(caught.value)
    assert "/s learner/0 in get TRAJ (0 of 2)" in text
    assert "/s actor/0, 1, 2 in pull PARAM (version 3, latest is 0)" in text
    assert isinstance(caught.value, HangError)
    assert "\n" not in text


@on_every_engine
def test_a_deadlock_inside_nesting_unwinds(kind):
    def member(index):
        with system("inner", "learner") as s:
            s.channel("TRAJ", "actor", "learner", 1).get()

    def program():
        with system("pbt", "population") as s:
            s.spawn("member", 2, member)
            s.channel("FITNESS", "member", "population", 1).get()

    with pytest.raises(Deadlock, match=r"/pbt/inner learner/0, 0 in get TRAJ"):
        engine_of(kind).run(program)


def test_an_error_while_being_ended_is_a_warning():
    def worker(index, channel):
        try:
            produce(index, channel)
        finally:
            raise OSError("close failed")

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, worker, channel)
            channel.get()
        return "kept"

    with pytest.warns(RuntimeWarning, match="/s actor/0 raised while it was being ended: OSError: close failed"):
        assert engine_of("inline").run(program) == "kept"


def test_interrupts_are_not_dressed_up():
    def worker(index, channel):
        raise KeyboardInterrupt

    for kind in KINDS:
        with pytest.raises(KeyboardInterrupt):
            engine_of(kind).run(consume_for_ever, 1, worker)
