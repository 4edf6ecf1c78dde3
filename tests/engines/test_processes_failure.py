# SPDX-License-Identifier: Apache-2.0
"""Failing workers that are processes, and deadlocks: who is named, what survives."""

import pytest

from engines import programs
from engines.running import PROCESSES, engine_of, workers_left
from shoal.engines import Deadlock, Ended, RoleFailed, system
from shoal.engines.kernels import processes
from shoal.engines.remote.errors import RemoteError, RemoteFault, WorkerDied, decode, encode
from shoal.errors import EnvironmentFault, HangError, MemoryShort, ShoalError
from shoal.processes import limits

on_both = pytest.mark.parametrize("kind", PROCESSES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def consume_for_ever(count, fn, *args, **policy):
    with system("inner", "learner") as s:
        channel = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", count, fn, channel, *args, **policy)
        while True:
            channel.get()


@on_both
@pytest.mark.parametrize(
    ("kind_of_error", "text", "reason", "code"),
    [
        ("EnvironmentFault", "reset returned None", "EnvironmentFault: reset returned None", 3),
        ("ConfigError", "x is too small", "ConfigError: x is too small", 2),
        ("NonFiniteError", "loss is nan", "NonFiniteError: loss is nan", 5),
        ("HangError", "nothing moves", "HangError: nothing moves", 6),
        ("CheckpointError", "torn", "CheckpointError: torn", 4),
        ("ValueError", "first\n  second", "ValueError: first second", 1),
        ("KeyError", "missing", "KeyError: 'missing'", 1),
        ("OSError", "disk", "OSError: disk", 1),
        ("UnicodeDecodeError", "bad", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff", 1),
        ("ExceptionGroup", "several", r"ExceptionGroup: several \(1 sub-exception\)", 1),
        ("OwnError", "mine", "OwnError: mine", 1),
        ("OwnFault", "odd env", "OwnFault: odd env", 3),
        ("AssertionError", "", "AssertionError", 1),
        ("SystemExit", "3", "SystemExit 3", 1),
    ],
)
def test_a_raising_worker_fails_the_run(kind, kind_of_error, text, reason, code):
    with pytest.raises(RoleFailed, match=f"^/inner actor/1 failed: .*{reason}") as caught:
        engine_of(kind).run(consume_for_ever, 3, programs.fail_at, 1, kind_of_error, text)
    failed = caught.value
    assert (failed.path, failed.role, failed.index, failed.exit_code) == ("/inner", "actor", 1, code)
    assert "\n" not in str(failed)
    assert failed.__cause__ is not None


@on_both
def test_a_failing_phase_fails_its_worker_and_says_where(kind):
    def program():
        with system("s", "learner") as s:
            s.spawn("actor", 1, programs.fail_in_phase)
            s.channel("X", "actor", "learner", 1).get()

    with pytest.raises(RoleFailed, match="/s actor/0 failed: ZeroDivisionError: integer division or modulo") as caught:
        engine_of(kind).run(program)
    (trace,) = caught.value.__cause__.__notes__  # for who debugs: where it was raised, over there
    assert "fail_in_phase" in trace


@on_both
def test_failure_inside_nesting_names_the_whole_way(kind):
    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 3, programs.member, channel, 1)
            channel.get()

    with pytest.raises(RoleFailed) as caught:
        engine_of(kind).run(program)
    outer = caught.value
    assert str(outer) == "/pbt/inner actor/1 in /pbt member/1 failed: EnvironmentFault: bad"
    assert (outer.path, outer.role, outer.index, outer.reason) == ("/pbt/inner", "actor", 1, "EnvironmentFault: bad")
    assert outer.inside == (("/pbt", "member", 1),)
    assert outer.exit_code == 3


@on_both
def test_the_bodys_own_error_arrives_as_it_is(kind):
    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 1, programs.member_that_fails_itself, channel)
            channel.get()

    with pytest.raises(RoleFailed, match="^/pbt member/0 failed: ZeroDivisionError: mine"):
        engine_of(kind).run(program)


@on_both
def test_a_failure_can_be_caught_around_a_system_within_a_process(kind):
    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 1, programs.member_that_goes_on, channel)
            return channel.get(2)

    assert engine_of(kind).run(program) == ["/pbt/inner actor/0 failed: ValueError: x", 40]


@on_both
def test_restart_calls_anew_with_the_next_epoch_within_the_budget(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, programs.fail_until, channel, 2, on_failure="restart", budget=2)
            return channel.get(4)

    engine = engine_of(kind)
    assert sorted(engine.run(program)) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert engine.losses() == [
        "/s actor/0 (epoch 0) restarted: ValueError: again",
        "/s actor/0 (epoch 1) restarted: ValueError: again",
    ]
    assert len({place["pid"] for place in engine.pids}) == 4
    assert sorted((place["index"], place["epoch"]) for place in engine.pids) == [(0, 0), (0, 1), (0, 2), (1, 0)]


@on_both
def test_an_exhausted_budget_fails(kind):
    with pytest.raises(RoleFailed, match="/inner actor/1 failed: ValueError: for good"):
        engine_of(kind).run(lambda: consume_for_ever(2, programs.fail_always, on_failure="restart", budget=2))


@on_both
def test_a_dropped_worker_is_missed_by_nobody_until_all_are_gone(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, programs.fail_at, channel, 1, "ValueError", "gone", on_failure="drop")
            while not engine.losses():
                channel.get()
            return len(channel.get(30))

    engine = engine_of(kind)
    assert engine.run(program) == 30
    assert engine.losses() == ["/s actor/1 (epoch 0) dropped: ValueError: gone"]
    with pytest.raises(Ended, match="get TRAJ: every actor of /inner has ended"):
        engine_of(kind).run(lambda: consume_for_ever(1, programs.fail_at, 0, "ValueError", "gone", on_failure="drop"))


@on_both
def test_a_deadlock_names_who_waits_for_what(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 3, programs.wait_for_version, params, 3)
            channel.get(2)

    with pytest.raises(Deadlock) as caught:
        engine_of(kind).run(program)
    text = str(caught.value)
    assert "/s learner/0 in get TRAJ (0 of 2)" in text
    assert "/s actor/0, 1, 2 in pull PARAM (version 3, latest is 0)" in text
    assert isinstance(caught.value, HangError)
    assert "\n" not in text


@on_both
def test_a_deadlock_inside_nesting_unwinds(kind):
    def program():
        with system("pbt", "population") as s:
            s.spawn("member", 2, programs.member_that_waits)
            s.channel("FITNESS", "member", "population", 1).get()

    with pytest.raises(Deadlock, match=r"/pbt/inner learner/0, 0 in get TRAJ"):
        engine_of(kind).run(program)


@on_both
def test_an_error_while_being_ended_is_a_warning(kind, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_S", 60.0)  # it needs a core for that

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, programs.fail_while_ended, channel)
            channel.get()
        return "kept"

    with pytest.warns(RuntimeWarning, match="/s actor/0 raised while it was being ended: OSError: close failed"):
        assert engine_of(kind).run(program) == "kept"


@on_both
def test_memory_that_runs_short_is_one_line(kind, monkeypatch):
    """Here and in a child, which asks the same of the machine."""
    monkeypatch.setattr(limits, "free_memory", lambda: 50_000)

    def program():
        with system("s", "learner") as s:
            s.channel("TRAJ", "learner", "learner", 1).put(programs.make_item(0, 0, 0).data)

    with pytest.raises(MemoryShort, match=r"needs 96,\d+ bytes, 50,000 are free; lower the number of actors"):
        engine_of(kind).run(program)


@pytest.mark.parametrize(
    "error",
    [
        ShoalError("a"), EnvironmentFault("b"), Deadlock("c"), Ended("d"), WorkerDied("e"), ValueError("f"), OSError(),
        RoleFailed("/s", "actor", 2, RoleFailed("/s/t", "learner", 0, EnvironmentFault("g"))), RemoteError("X: y"),
        RemoteFault("Y: z"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_that_crosses_says_the_same(error):
    again = decode(encode(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert getattr(again, "exit_code", 0) == getattr(error, "exit_code", 0)
    assert getattr(again, "inside", ()) == getattr(error, "inside", ())
