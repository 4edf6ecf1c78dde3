# SPDX-License-Identifier: Apache-2.0
"""The life of workers on every engine: start, stop, end, and who they are."""

import threading
import time

import pytest

from engines.running import KINDS, engine_of, workers_left
from shoal.engines import Stopped, make_engine, me, note, now, phase, system
from shoal.errors import ConfigError, HangError, ShoalError
from shoal.processes.ports import LOOPBACK

on_every_engine = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def nothing(*args):
    """A phase's work."""


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


@pytest.mark.parametrize("kind", ["inline", "simulated"])
def test_thousands_of_workers_are_no_deeper_than_one(kind):
    """A greenlet inherits its starter's stack depth: workers that start one another must not reach Python's limit."""

    def worker(index, channel):
        channel.put(phase("work", lambda: index))
        produce(index, channel)

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 1500, worker, channel)
            return len(set(channel.get(1500)))

    assert engine_of(kind).run(program) == 1500


def produce_once(index, channel):
    channel.put(index)


@on_every_engine
def test_leaving_a_system_ends_its_workers(kind):
    ended = []

    def worker(index, channel):
        try:
            produce(index, channel)
        except Exception:  # noqa: BLE001 what a user might write
            ended.append("swallowed")  # Stopped is no Exception
        finally:
            ended.append(index)

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 3, worker, channel)
            channel.get(4)
        return "value"

    assert engine_of(kind).run(program) == "value"
    assert set(ended) <= {0, 1, 2}  # on threads one may not have begun


@on_every_engine
@pytest.mark.parametrize("worker", [produce, lambda index, channel: channel.get()], ids=["busy", "in a put"])
def test_stop_from_a_worker(kind, worker):
    def stopper(index, channel):
        if index == 0:
            phase("work", nothing)
            engine.stop("enough")
        produce(index, channel)

    engine = engine_of(kind)
    assert engine.run(consume_for_ever, 3, stopper) is None
    assert engine.stop_reason == "enough"


@pytest.mark.parametrize("kind", ["threads", "threads-fixed"])
def test_stop_from_another_thread(kind):
    engine = engine_of(kind)
    threading.Timer(0.1, engine.stop, ("signal",)).start()
    assert engine.run(consume_for_ever, 2, produce) is None
    engine.stop("later")
    assert engine.stop_reason == "signal"


def test_stop_reaches_a_wait_under_way():
    """The body leaves its wait while the only worker is still inside a phase, which the body then ends."""
    inside, released, ended_by_body = threading.Event(), threading.Event(), []

    def long():
        inside.set()
        return released.wait(60)

    def busy(index, channel):
        ended_by_body.append(phase("long", long))
        channel.put(0)

    def stop():
        inside.wait(60)
        time.sleep(0.05)  # the body waits by now, or soon
        engine.stop("now")

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, busy, channel)
            try:
                channel.get()
            except Stopped:
                released.set()
                raise

    engine = engine_of("threads")
    threading.Thread(target=stop).start()
    assert engine.run(program) is None
    assert ended_by_body == [True]


@on_every_engine
def test_stop_within_nesting_and_before_the_run(kind):
    def member(index, channel):
        consume_for_ever(2, fail_never)

    def fail_never(index, channel):
        for count in range(1000):
            if count == 20:
                engine.stop("deep inside")
            channel.put(phase("work", nothing))

    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 2, member, channel)
            channel.get()

    engine = engine_of(kind)
    assert engine.run(program) is None
    assert engine.stop_reason == "deep inside"
    again = engine_of(kind)
    again.stop("early")
    assert again.run(program) is None


@pytest.mark.parametrize("kind", ["threads", "threads-fixed"])
def test_a_worker_that_will_not_end_is_named(kind):
    inside, released = threading.Event(), threading.Event()

    def endless():
        inside.set()
        released.wait()

    def stuck(index, channel):
        channel.put(0)
        phase("endless", endless)

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 1, stuck, channel)
            channel.get()
            if kind == "threads":  # in fixed order it is there by now
                assert inside.wait(60)

    engine = engine_of(kind)
    engine.join_seconds = 0.2
    with pytest.raises(HangError, match=r"/s actor/0 in phase 'endless' would not end within 0\.2 s"):
        engine.run(program)
    released.set()
    until = time.monotonic() + 60
    while workers_left() and time.monotonic() < until:
        time.sleep(0.01)


@on_every_engine
@pytest.mark.parametrize(
    "use", [lambda c: phase("inner", nothing), lambda c: c.put(1), lambda c: system("x", "y").__enter__()]
)
def test_a_phase_is_a_leaf(kind, use):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "learner", "learner", 2)
            phase("outer", use, channel)

    with pytest.raises(ShoalError, match="/s learner/0 used a primitive inside its phase 'outer'"):
        engine_of(kind).run(program)


@on_every_engine
def test_a_phase_returns_and_raises_what_its_function_does(kind):
    def program():
        with pytest.raises(KeyError):
            phase("bad", {}.__getitem__, "missing")
        return phase("good", divmod, 7, 2)

    engine = engine_of(kind)
    assert engine.run(program) == (3, 1)
    assert set(engine.phases()["main"]) == {"bad", "good"}


@on_every_engine
def test_everybody_knows_who_it_is(kind):
    def worker(index, channel):
        channel.put(tuple(me()))
        with system("in", "learner"):
            channel.put(tuple(me()))

    def program():
        assert tuple(me()) == ("main", 0, 0, "/", LOOPBACK)
        with system("out", "population") as s:
            assert tuple(me()) == ("population", 0, 0, "/out", LOOPBACK)
            channel = s.channel("ME", "member", "population", 2)
            s.spawn("member", 2, worker, channel)
            got = channel.get(4, by_sender=True)
        assert tuple(me()) == ("main", 0, 0, "/", LOOPBACK)
        return got

    assert engine_of(kind).run(program) == [
        ("member", 0, 0, "/out", LOOPBACK),
        ("learner", 0, 0, "/out/in", LOOPBACK),
        ("member", 1, 0, "/out", LOOPBACK),
        ("learner", 0, 0, "/out/in", LOOPBACK),
    ]


@on_every_engine
def test_indices_go_on_over_spawns_and_the_body_counts(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 2, produce_once, channel)
            s.spawn("actor", 2, produce_once, channel)
            peers = s.channel("PEER", "learner", "learner", 9)
            s.spawn("learner", 2, produce_once, peers)
            return sorted(channel.get(4)), sorted(peers.get(2))

    assert engine_of(kind).run(program) == ([0, 1, 2, 3], [1, 2])


@on_every_engine
def test_notes_reach_the_watcher_one_at_a_time(kind):
    inside, seen = [], []

    def watch(**metrics):
        assert not inside
        inside.append(1)
        seen.append(metrics["index"])
        inside.pop()

    def noisy(index, channel):
        note(index=index)
        channel.put(index)

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 4, noisy, channel)
            channel.get(4)

    engine = engine_of(kind)
    engine.on_note = watch
    engine.run(program)
    assert sorted(seen) == [0, 1, 2, 3]


def test_outside_an_engine_phases_are_calls_and_the_rest_says_what_is_missing():
    assert phase("x", max, 1, 2) == 2
    note(ignored=1)
    for use in (me, now, lambda: system("s", "r").__enter__()):
        with pytest.raises(ShoalError, match="no engine is running here"):
            use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rey",), "engine 'rey' is unknown: use inline, threads, processes, ray or simulated"),
        (("threads", "sorted"), "order 'sorted' is unknown: use free or fixed"),
        (("threads", "free", {"x": 1.0}), "use order='fixed'"),
        (("inline", "free", None, {"actor/0": 0.5}), "factor of at least 1"),
    ],
)
def test_engines_that_cannot_be_made_say_why(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_engine(*arguments)


def test_stopped_is_no_exception():
    assert not issubclass(Stopped, Exception)
