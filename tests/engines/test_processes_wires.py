# SPDX-License-Identifier: Apache-2.0
"""Services, stores and shared vectors whose workers are processes."""

import functools

import numpy as np
import pytest

from engines import programs
from engines.running import PROCESSES, engine_of, row, workers_left
from shoal.engines import Ended, RoleFailed, system
from shoal.errors import ConfigError, ShoalError

on_both = pytest.mark.parametrize("kind", PROCESSES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@on_both
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_service_answers_each_its_own(kind, batch):
    def program():
        sizes = []
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", batch, 10.0)
            results = s.channel("RESULT", "actor", "inference", 1000)
            s.spawn("actor", 3, programs.ask, service, results, 4)
            with pytest.raises(Ended, match="take OBS: every actor of /s has ended"):
                while True:
                    requests = service.take()
                    sizes.append(len(requests))
                    service.reply(requests, [(r.index, r.item[1]) for r in requests])
            return sizes, results.get(12)

    engine = engine_of(kind)
    sizes, results = engine.run(program)
    assert sum(sizes) == 12
    assert max(sizes) <= batch
    assert all(answer == question for answer, question in results)
    assert row(engine, "OBS")["count"] == row(engine, "ACT")["count"] == 12


@on_both
def test_a_service_between_processes(kind):
    def program():
        with system("s", "learner") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 3, 0.01)
            results = s.channel("RESULT", "actor", "learner", 100)
            sizes = s.channel("SIZE", "inference", "learner", 100)
            s.spawn("inference", 1, programs.answer, service, sizes)
            s.spawn("actor", 3, programs.ask, service, results, 4)
            got = results.get(12)
            batches = []
            while sum(batches) < 12:
                batches += sizes.get()
            return got, batches

    got, batches = engine_of(kind).run(program)
    assert all(answer == question for answer, question in got)
    assert sum(batches) == 12
    assert max(batches) <= 3


def test_a_deadline_in_fixed_order_is_in_virtual_time():
    def program(deadline_s):
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, deadline_s)
            s.spawn("actor", 2, programs.work_then_ask, service)
            requests = service.take()
            service.reply(requests, requests)
            return [r.index for r in requests]

    assert engine_of("processes-fixed").run(program, 0.002) == [0]
    assert engine_of("processes-fixed").run(program, 0.008) == [0, 1]


def test_a_deadline_in_free_order_is_real():
    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, 0.01)
            served = s.channel("SERVED", "actor", "inference", 2)
            s.spawn("actor", 2, programs.ask_or_be_busy, service, served)
            requests = service.take()
            service.reply(requests, [np.arange(programs.BIG)])
            return [r.index for r in requests], int(served.get()[0][-1])

    assert engine_of("processes").run(program) == ([0], programs.BIG - 1)


@on_both
def test_an_answer_to_a_restarted_client_is_thrown_away(kind):
    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            results = s.channel("RESULT", "actor", "inference", 1)
            s.spawn("actor", 1, programs.ask_and_fail, service, results, on_failure="restart")
            first = service.take()
            second = service.take()
            service.reply(first, ["too late"])
            service.reply(second, ["right"])
            return first[0].epoch, second[0].epoch, results.get()

    assert engine_of(kind).run(program) == (0, 1, ["right"])


@on_both
def test_a_ticket_is_good_for_once(kind):
    def program():
        with system("s", "learner") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            results = s.channel("RESULT", "actor", "learner", 1)
            s.spawn("inference", 1, programs.double, service)
            s.spawn("actor", 1, programs.use_a_ticket_twice, service, results)
            assert (results.get()[0] == 2 * np.arange(programs.BIG)).all()
            results.get()

    with pytest.raises(RoleFailed, match="a ticket is good for once"):
        engine_of(kind).run(program)


@on_both
def test_a_store_keeps_versions_for_those_behind(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.full(programs.BIG, 5), version=5, keep=3)
            results = s.channel("RESULT", "actor", "learner", 1)
            go = s.channel("GO", "learner", "actor", 1)
            s.spawn("actor", 1, programs.pull_behind, params, results, go)
            got = []
            for versions in ((6,), (7, 8)):
                for version in versions:
                    assert params.publish(np.full(programs.BIG, version)) == version
                go.put(None)
                got += results.get()
            return got

    assert engine_of(kind).run(program) == [([6, 5, 5], [6, 5, 5], 6), ([8, 7, 6], [8, 7, 6], 8)]


@on_both
def test_a_process_publishes_and_others_wait_for_it(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "owner", np.zeros(programs.BIG))
            s.spawn("owner", 1, programs.publish_some, params, 5)
            value, version = params.pull(at_least=5)
            assert not value.flags.writeable
            with pytest.raises(Ended, match="pull PARAM: every owner of /s has ended, version 6 will not come"):
                params.pull(at_least=6)
            return int(value[-1]), version

    assert engine_of(kind).run(program) == (5, 5)


@on_both
def test_params_are_read_only_where_they_are_pulled(kind):
    """All who pull read one copy."""

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.zeros(programs.BIG))
            s.spawn("actor", 1, programs.write_to_params, params)
            s.channel("TRAJ", "actor", "learner", 1).get()

    with pytest.raises(RoleFailed, match="/s actor/0 failed: ValueError: assignment destination is read-only"):
        engine_of(kind).run(program)


@on_both
def test_a_vector_is_shared_with_its_moments(kind):
    def program():
        with system("s", "learner") as s:
            vector = s.vector("learner", np.ones(5), programs.rms, shards=2, moments=1, source="worker")
            pulled = s.channel("PULLED", "worker", "learner", 9)
            s.spawn("worker", 1, programs.push_some, vector, pulled, 3)
            assert pulled.get() == [(0, True, 0)]
            return vector.pull()

    params, moments = np.ones(5), np.zeros((1, 5))
    for _ in range(3):
        programs.rms(params, moments, np.arange(5.0), 1.0)
    engine = engine_of(kind)
    flat, version = engine.run(program)
    assert version == 3
    assert np.array_equal(flat, params)
    assert (row(engine, "GRAD")["count"], row(engine, "GRAD")["lag_max"]) == (3, 0)
    assert row(engine, "PARAM")["count"] == 3
    assert engine.phases()["worker"]["push"] > 0


@on_both
def test_a_vector_rejects_gradients_that_are_too_old(kind):
    def program():
        with system("s", "learner") as s:
            vector = s.vector("learner", np.zeros(3), programs.add, source="worker", max_lag=1)
            results = s.channel("RESULT", "worker", "learner", 1)
            s.spawn("worker", 1, programs.push_old, vector, results)
            return results.get()[0], vector.pull()[0].tolist()

    assert engine_of(kind).run(program) == ((2, 2, 20), [2.0, 2.0, 2.0])


@pytest.mark.parametrize("rule", [lambda params, moments, grad, rate: None, functools.partial(lambda *a: None)])
def test_a_rule_that_workers_apply_must_be_found_by_name(rule):
    def program():
        with system("s", "learner") as s:
            vector = s.vector("learner", np.zeros(3), rule, source="worker")
            results = s.channel("RESULT", "worker", "learner", 1)
            s.spawn("worker", 1, programs.push_old, vector, results)
            results.get()

    with pytest.raises((RoleFailed, ConfigError), match="a lambda cannot be found by name") as caught:
        engine_of("processes").run(program)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@on_both
def test_only_the_declared_role_may_use_a_side(kind):
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "learner", "learner", 1)
            s.spawn("actor", 1, programs.put_once, channel)
            s.channel("X", "actor", "learner", 1).get()

    with pytest.raises(ShoalError, match="/s actor/0 cannot put TRAJ: this side belongs to role 'learner'"):
        engine_of(kind).run(program)
