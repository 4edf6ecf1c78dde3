# SPDX-License-Identifier: Apache-2.0
"""Shared vectors on every engine: pushes without a lock, exchanges under locks that a killed worker cannot keep."""

import threading

import numpy as np
import pytest

from engines import programs, vector_programs
from engines.running import ALL, FREE, PROCESSES, engine_of, row, workers_left
from shoal.engines import Ended, system
from shoal.engines.kernels.threaded import ThreadedKernel
from shoal.engines.remote.desk import QUIET_S
from shoal.engines.wires.locks import ThreadLocks
from shoal.engines.wires.numbers import Form, Numbers
from shoal.errors import ConfigError, ShoalError

on_every_engine = pytest.mark.parametrize("kind", ALL)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def rms_by_hand(grads, moments):
    """Params and moments after the toy's rule on these gradients, from ones."""
    params = np.ones(6)
    for grad, rows in zip(grads, moments, strict=True):
        programs.rms(params, rows, grad, 0.1)
    return params


@on_every_engine
@pytest.mark.parametrize("shared", [True, False])
def test_two_workers_push_to_moments_that_are_shared_or_their_own(kind, shared):
    """One after the other: shared, the moments are the two-step recurrence; else each worker's are one step."""
    grads = [np.arange(6.0), np.ones(6)]

    def program():
        with system("s", "server") as s:
            form = (1, 6) if shared else (2, 1, 6)
            vector = s.vector("server", np.ones(6), programs.rms, moments=np.zeros(form), source="worker")
            turns = [s.channel("GRADIENT", "server", "worker", 1) for _ in grads]
            told = s.channel("TOLD", "worker", "server", 2)
            for turn in turns:
                s.spawn("worker", 1, vector_programs.push_in_turn, vector, turn, told)
            versions = []
            for turn, grad in zip(turns, grads, strict=True):
                turn.put(grad)
                versions += told.get()
            return versions, vector.pull()[0], vector.moments(), vector.samples

    engine = engine_of(kind)
    versions, params, moments, samples = engine.run(program)
    assert (versions, samples) == ([1, 2], 4)
    by_hand = np.zeros((1, 6)) if shared else np.zeros((2, 1, 6))
    np.testing.assert_allclose(params, rms_by_hand(grads, [by_hand] * 2 if shared else by_hand))
    np.testing.assert_allclose(moments, by_hand)
    assert row(engine, "GRAD")["count"] == 2


class SpyLock:
    """A lock that knows how often each thread took it."""

    def __init__(self):
        self._lock, self.taken = threading.Lock(), {}

    def acquire(self, *args, **settings):
        me = threading.current_thread().name
        self.taken[me] = self.taken.get(me, 0) + 1
        return self._lock.acquire(*args, **settings)

    def release(self):
        self._lock.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


@pytest.mark.evidence("fingerprint", "a3c")
@pytest.mark.parametrize("locked", [False, True])
def test_no_lock_is_taken_by_pushes_between_threads(locked, monkeypatch):
    """With the control: an exchange takes one for every chunk."""
    spy, counts = SpyLock(), []

    class Spied(ThreadedKernel):
        def chunk_locks(self, segment, count):
            locks = ThreadLocks(count)
            locks._locks = [spy] * count
            return locks

    def work(index, vector, told):
        give = vector.exchange if locked else vector.push
        give(np.ones(6), 0)  # has a lane from here on
        before = spy.taken.get(threading.current_thread().name, 0)
        for _ in range(50):
            give(np.ones(6), vector.pull()[1] if not locked else 0)
        counts.append(spy.taken.get(threading.current_thread().name, 0) - before)
        told.put(index)

    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(6), programs.add, shards=3, source="worker", locked=locked)
            told = s.channel("TOLD", "worker", "server", 2)
            s.spawn("worker", 2, work, vector, told)
            told.get(2)
            return vector.pull()[0]

    engine = engine_of("threads")
    monkeypatch.setattr(engine, "_make_kernel", lambda e: spied_kernel(Spied(e), spy))
    params = engine.run(program)
    assert np.all(params == 102) if locked else np.all(params > 0)
    assert all(count >= 150 for count in counts) if locked else counts == [0, 0]


def spied_kernel(kernel, spy):
    """The kernel with a lock that counts."""
    kernel.lock = spy
    return kernel


@pytest.mark.evidence("fingerprint", "a3c")
def test_pushes_of_processes_neither_lock_nor_speak():
    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(6), programs.add, source="worker")
            results = s.channel("RESULT", "worker", "server", 2)
            s.spawn("worker", 2, vector_programs.push_counting, vector, results, 400)
            return results.get(2), vector.version

    results, version = engine_of("processes").run(program)
    assert version == 802
    for _, spoken, locked, took in results:
        assert locked == 0
        assert spoken <= 2 + took / QUIET_S  # every few milliseconds, whatever gathered; never for each push


@pytest.mark.evidence("fingerprint", "gorila")
def test_shards_see_their_slice_only_and_need_not_agree_on_a_version():
    """A second worker pulls while a push is between two shards: the first shard is a version ahead of the last."""
    seen, between, go_on = [], threading.Event(), threading.Event()

    def rule(params, moments, grad, rate):
        if len(seen) == 1:
            between.set()
            assert go_on.wait(60)
        seen.append(grad.tolist())
        params += grad

    def push(index, vector):
        vector.push(np.arange(1.0, 8.0), 0)

    def look(index, vector, told):
        assert between.wait(60)
        told.put((vector.pull(), vector.version))
        go_on.set()

    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(7), rule, shards=3, source="learner")
            told = s.channel("TOLD", "actor", "server", 1)
            s.spawn("learner", 1, push, vector)
            s.spawn("actor", 1, look, vector, told)
            (mixed, version), _ = told.get()[0]
            return mixed, version, vector.pull(at_least=1)[0]

    mixed, version, after = engine_of("threads").run(program)
    assert seen == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 7.0]]
    assert (mixed.tolist(), version) == ([1, 2, 0, 0, 0, 0, 0], 0)
    np.testing.assert_array_equal(after, np.arange(1.0, 8.0))


@on_every_engine
def test_exchanges_lose_nothing_and_are_counted(kind):
    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(10), programs.add, shards=3, source="worker", locked=True, samples=5)
            told = s.channel("TOLD", "worker", "server", 3)
            s.spawn("worker", 3, vector_programs.exchange_some, vector, told, 20)
            told.get(3)
            return vector.pull()[0], vector.version, vector.samples

    engine = engine_of(kind)
    params, version, samples = engine.run(program)
    assert (version, samples) == (60, 185)
    np.testing.assert_array_equal(params, np.full(10, 60.0))
    assert row(engine, "GRAD")["count"] == 60
    assert engine.phases()["worker"]["exchange"] > 0


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_torn_chunk_is_as_it_was_before_it_was_begun(chunk):
    """The rule fails at half a chunk, at every chunk: what was begun is undone by who comes next, the rest stands."""
    form = Form(9, "<f8", (1,), 3, True)
    memory = bytearray(form.nbytes)
    numbers = Numbers(memory, form, programs.add)
    numbers.begin(np.arange(9.0), np.ones((1, 9)), 0, 0)
    before = numbers.copy()

    def half(params, moments, grad, rate):
        params[:1] += grad[:1]
        moments[:] = 7
        raise KeyboardInterrupt

    numbers.rule = half
    with pytest.raises(KeyboardInterrupt):
        numbers.exchange(chunk, np.full(9, 5.0), 1.0, 0, numbers.blank())
    assert not np.array_equal(numbers.copy(), before)
    again = Numbers(memory, form, programs.add)  # as another process sees it
    for other in range(3):
        out = again.blank()
        again.copy_chunk(other, out)
        np.testing.assert_array_equal(out[:, again.parts[other]], before[:, again.parts[other]])
    np.testing.assert_array_equal(again.copy(), before)


def test_a_worker_that_is_killed_within_a_chunk_stops_nobody():
    """Killed at half of its first chunk, holding its lock: the kernel frees it, the next one restores the chunk."""

    def program():
        with system("s", "server") as s:
            rule = vector_programs.Killer(1000.0)
            vector = s.vector("server", np.zeros(12), rule, shards=3, moments=1, source="worker", locked=True)
            told = s.channel("TOLD", "worker", "server", 3)
            s.spawn("worker", 1, vector_programs.exchange_once_killed, vector, told, 1000.0)
            s.spawn("worker", 2, vector_programs.exchange_some, vector, told, 30)
            return sorted(told.get(3)), vector.pull()[0], vector.moments(), vector.version

    engine = engine_of("processes")
    told, params, moments, version = engine.run(program)
    assert told == [(0, 1, 0), (1, 0, 30), (2, 0, 30)]
    assert version == 60
    np.testing.assert_array_equal(params, np.full(12, 60.0))
    np.testing.assert_array_equal(moments, np.full((1, 12), 60.0))
    assert any("restarted" in line for line in engine.losses())


def test_the_order_of_chunks_varies():
    seen = set()

    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(3), note_chunk, shards=3, source="server", locked=True)
            for _ in range(6):
                order.clear()
                vector.exchange(np.arange(3.0), vector.version)
                seen.add(tuple(order))

    order = []

    def note_chunk(params, moments, grad, rate):
        order.append(int(grad[0]))

    engine_of("inline").run(program)
    assert seen == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FREE)
def test_ten_thousand_exchanges_without_a_deadlock(kind):
    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(1000), programs.add, shards=3, source="worker", locked=True)
            told = s.channel("TOLD", "worker", "server", 4)
            s.spawn("worker", 4, vector_programs.exchange_some, vector, told, 2500)
            told.get(4)
            return vector.pull()[0], vector.version

    params, version = engine_of(kind).run(program)
    assert version == 10_000
    np.testing.assert_array_equal(params, np.full(1000, 10_000.0))


@on_every_engine
def test_a_vector_goes_on_from_what_it_is_given(kind):
    def program():
        with system("s", "server") as s:
            start = {"moments": np.full((1, 6), 2.0), "version": 7, "samples": 70}
            vector = s.vector("server", np.ones(6), programs.rms, source="worker", **start)
            told = s.channel("TOLD", "worker", "server", 1)
            turn = s.channel("GRADIENT", "server", "worker", 1)
            s.spawn("worker", 1, vector_programs.push_in_turn, vector, turn, told)
            turn.put(np.ones(6))
            return told.get()[0], vector.version, vector.samples, vector.moments()[0, 0], vector.pull(8)[1]

    assert engine_of(kind).run(program) == (8, 8, 72, pytest.approx(0.9 * 2 + 0.1), 8)


@pytest.mark.parametrize("kind", ["inline", "threads", *PROCESSES])
def test_who_waits_for_versions_that_cannot_come_is_told(kind):
    def program():
        with system("s", "server") as s:
            vector = s.vector("server", np.zeros(3), programs.add, source="worker", max_lag=1)
            results = s.channel("RESULT", "worker", "server", 1)
            s.spawn("worker", 1, programs.push_old, vector, results)
            assert vector.pull(at_least=2)[1] == 2
            vector.pull(at_least=3)

    with pytest.raises(Ended, match="pull PARAM: every worker of /s has ended, version 3 will not come"):
        engine_of(kind).run(program)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda s: s.vector("x", np.zeros(4), programs.add, moments=np.zeros(4)), ConfigError, "moments of shape"),
        (lambda s: s.vector("x", np.zeros(4), programs.add, moments=np.zeros((1, 3))), ConfigError, "moments of shape"),
        (lambda s: s.vector("x", np.zeros(4), programs.add, shards=5), ConfigError, "in 5 shards"),
        (lambda s: s.vector("x", np.zeros(4), programs.add).push(np.zeros(3), 0), ConfigError, "gradient of shape"),
        (lambda s: s.vector("x", np.zeros(4), programs.add).exchange(np.zeros(4), 0), ShoalError, "use push"),
        (lambda s: s.vector("x", np.zeros(4), programs.add, locked=True).push(np.zeros(4), 0), ShoalError, "exchange"),
    ],
)
def test_wrong_use_is_one_line(use, error, message):
    def program():
        with system("s", "body") as s:
            use(s)

    with pytest.raises(error, match=message) as caught:
        engine_of("inline").run(program)
    assert "\n" not in str(caught.value)
