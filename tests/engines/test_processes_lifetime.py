# SPDX-License-Identifier: Apache-2.0
"""The life of workers that are processes: start, stop, end, who they are."""

import os
import threading
import time

import pytest

from engines import programs
from engines.running import PROCESSES, engine_of, fresh_engine, stop_when, workers_left
from shoal.engines import RoleFailed, Stopped, me, system
from shoal.engines.kernels import processes
from shoal.errors import ConfigError
from shoal.processes import launch

on_both = pytest.mark.parametrize("kind", PROCESSES)
pytestmark = pytest.mark.usefixtures("fresh_server")


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def all_gone(engine, seconds=60.0) -> bool:
    """Whether none of an engine's workers runs any more; one that has ended and is not reaped yet does not."""

    def runs(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    assert engine.pids
    until = time.monotonic() + seconds
    while any(runs(place["pid"]) for place in engine.pids) and time.monotonic() < until:
        time.sleep(0.005)
    return not any(runs(place["pid"]) for place in engine.pids)


def consume_for_ever(count, fn, *args, **policy):
    with system("inner", "learner") as s:
        channel = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", count, fn, channel, *args, **policy)
        while True:
            channel.get()


@on_both
def test_leaving_a_system_ends_its_workers_whatever_they_catch(kind, tmp_path, monkeypatch):
    """Their own last words are spoken; `except Exception` does not hold Stopped."""
    monkeypatch.setattr(processes, "GRACE_S", 60.0)  # they need a core for that

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 3, programs.end_well, channel, str(tmp_path))
            begun = set()
            while len(begun) < 3:
                begun.update(channel.get())
        return "value"

    engine = engine_of(kind)
    assert engine.run(program) == "value"
    assert sorted(os.listdir(tmp_path)) == ["0-ended", "1-ended", "2-ended"]
    assert all_gone(engine)


def test_a_worker_that_will_not_end_is_killed():
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 1, programs.never_end, channel)
            return channel.get()

    engine = engine_of("processes")
    assert engine.run(program) == [0]
    assert all_gone(engine)


@on_both
def test_stop_from_another_thread(kind):
    engine = engine_of(kind)
    threading.Thread(target=stop_when, args=(engine, "signal", lambda: len(engine.pids) == 2)).start()
    assert engine.run(consume_for_ever, 2, programs.produce) is None
    engine.stop("later")
    assert engine.stop_reason == "signal"
    assert all_gone(engine)


@on_both
def test_stop_by_who_watches_the_notes(kind):
    engine = engine_of(kind)
    engine.on_note = lambda count: engine.stop("enough") if count == 20 else None
    assert engine.run(consume_for_ever, 2, programs.note_and_go_on) is None
    assert engine.stop_reason == "enough"


@on_both
def test_a_watcher_of_notes_that_fails_ends_the_run(kind):
    engine = engine_of(kind)

    def watch(count) -> None:
        if count == 3:
            raise ValueError("the disk is full")

    engine.on_note = watch
    with pytest.raises(RoleFailed, match="the disk is full"):
        engine.run(consume_for_ever, 2, programs.note_and_go_on)


@on_both
def test_stop_while_everybody_waits_for_a_worker_at_work(kind):
    engine = engine_of(kind)
    threading.Thread(target=stop_when, args=(engine, "now", lambda: engine.pids)).start()

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, programs.never_end, channel)
            channel.get()
            channel.get()

    assert engine.run(program) is None


@on_both
def test_stop_within_nesting_and_before_the_run(kind):
    def program():
        with system("pbt", "population") as s:
            channel = s.channel("FITNESS", "member", "population", 2)
            s.spawn("member", 2, programs.member_at_work, channel)
            heard = set()
            while heard != {0, 1} or len(engine.pids) < 6:  # one member alone may have filled the channel
                heard.add(channel.get()[0][0])
            engine.stop("deep inside")
            while True:
                channel.get()

    engine = engine_of(kind)
    assert engine.run(program) is None
    assert len(engine.pids) == 6
    assert all_gone(engine)
    again = engine_of(kind)
    again.stop("early")
    assert again.run(program) is None
    assert again.pids == []


@on_both
def test_an_interrupt_of_the_body_ends_everybody(kind):
    """As Ctrl-C does where no handler was set."""

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 2, programs.produce, channel)
            channel.get(2)
            raise KeyboardInterrupt

    engine = engine_of(kind)
    with pytest.raises(KeyboardInterrupt):
        engine.run(program)
    assert all_gone(engine)


@on_both
@pytest.mark.parametrize("how", ["phase", "system"])
def test_a_phase_is_a_leaf(kind, how):
    def program():
        with system("s", "learner") as s:
            s.spawn("actor", 1, programs.phase_in_phase, how)
            s.channel("X", "actor", "learner", 1).get()

    with pytest.raises(RoleFailed, match="/s actor/0 used a primitive inside its phase 'outer'"):
        engine_of(kind).run(program)
    with pytest.raises(RoleFailed, match="inner actor/0 used a primitive inside its phase 'outer'"):
        engine_of(kind).run(consume_for_ever, 1, programs.put_in_phase)


@on_both
def test_everybody_knows_who_it_is(kind):
    def program():
        with system("out", "population") as s:
            channel = s.channel("ME", "member", "population", 2)
            s.spawn("member", 2, programs.who_am_i, channel)
            got = channel.get(6, by_sender=True)
        assert tuple(me())[:4] == ("main", 0, 0, "/")
        return got

    assert engine_of(kind).run(program) == [
        (role, index if role == "member" else 0, 0, path)
        for index in (0, 1)
        for role, path in (("member", "/out"), ("learner", "/out/in"), ("member", "/out"))
    ]


@on_both
def test_indices_go_on_over_spawns_and_the_body_counts(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 2, programs.put_once, channel)
            s.spawn("actor", 2, programs.put_once, channel)
            peers = s.channel("PEER", "learner", "learner", 9)
            s.spawn("learner", 2, programs.put_once, peers)
            return sorted(channel.get(4)), sorted(peers.get(2))

    assert engine_of(kind).run(program) == ([0, 1, 2, 3], [1, 2])


@on_both
def test_workers_are_processes_of_their_own_without_jax(kind):
    """Their parent is the fork server, they are told apart, and none may touch an accelerator."""

    def program():
        with system("s", "learner") as s:
            channel = s.channel("ME", "actor", "learner", 9)
            s.spawn("actor", 3, programs.tell_process, channel)
            return channel.get(3, by_sender=True)

    engine = fresh_engine(kind)
    told = engine.run(program)
    servers = {parent for _, _, parent, *_ in told}
    if not kind.startswith("cluster"):  # where every node has one
        assert servers == {launch.shared().server_pid}
    assert [(index, jax, platform) for index, _, _, jax, platform in told] == [(i, [], "cpu") for i in range(3)]
    pids = [pid for _, pid, *_ in told]
    assert len({*pids, os.getpid(), *servers}) == 4 + len(servers)
    assert sorted((p["system"], p["role"], p["index"], p["epoch"], p["pid"]) for p in engine.pids) == [
        ("/s", "actor", index, 0, pids[index]) for index in range(3)
    ]
    if engine.cluster is not None:
        engine.cluster.close()


def defined_in_the_script(index, channel):
    """Its module is set to that of a script below."""


@on_both
@pytest.mark.parametrize(
    ("fn", "args", "says"),
    [
        (lambda index, channel: None, (), "a lambda cannot be found by name in another process"),
        ("closure", (), "<locals>.closure of .* cannot be found by name in another process"),
        ("script", (), "defined_in_the_script is defined in the script that is running; move it to a module"),
        (programs.put_given, (object(),), "a builtins.object cannot cross to another process"),
        (programs.put_given, ([threading.Lock()],), "a _thread.lock cannot cross to another process"),
        (programs.put_given, ({"f": lambda: 0},), "a lambda cannot be found by name"),
    ],
)
def test_what_no_other_process_can_find_is_refused_in_one_line(kind, fn, args, says, monkeypatch):
    def closure(index, channel):
        return args

    monkeypatch.setattr(defined_in_the_script, "__module__", "__main__")
    fn = {"closure": closure, "script": defined_in_the_script}.get(fn, fn) if isinstance(fn, str) else fn
    with pytest.raises(RoleFailed, match=says) as caught:
        engine_of(kind).run(consume_for_ever, 2, fn, *args)
    text = str(caught.value)
    assert "use --engine threads" in text
    assert text.startswith("/inner actor/0 failed: ConfigError: ")
    assert "\n" not in text
    assert caught.value.exit_code == ConfigError.exit_code


@on_both
def test_an_item_that_cannot_cross_is_refused_in_one_line(kind):
    def program():
        with system("s", "learner") as s:
            s.channel("X", "learner", "learner", 1).put({"fn": object()})

    with pytest.raises(ConfigError, match="a builtins.object cannot cross to another process"):
        engine_of(kind).run(program)


def test_stopped_is_no_exception():
    assert not issubclass(Stopped, Exception)
