# SPDX-License-Identifier: Apache-2.0
"""Services on every engine: batches, deadlines, tickets."""

import threading

import pytest

from engines.running import FIXED, KINDS, engine_of, row
from shoal.engines import Ended, me, phase, system
from shoal.errors import ShoalError

on_every_engine = pytest.mark.parametrize("kind", KINDS)


def work(*args):
    """What a phase does here."""
    return args


def ask(index, service, results, count):
    for k in range(count):
        results.put((service.call((index, k)), (index, k)))


def serve(batch, deadline_s, clients, count):
    sizes = []
    with system("s", "inference") as s:
        service = s.service("OBS", "ACT", "actor", "inference", batch, deadline_s)
        results = s.channel("RESULT", "actor", "inference", 1000)
        s.spawn("actor", clients, ask, service, results, count)
        with pytest.raises(Ended, match="take OBS: every actor of /s has ended"):
            while True:
                requests = service.take()
                sizes.append(len(requests))
                service.reply(requests, [(r.index, r.item[1]) for r in requests])
        return sizes, results.get(clients * count)


@on_every_engine
@pytest.mark.parametrize(("batch", "deadline_s"), [(1, 10.0), (2, 10.0), (3, 10.0), (100, 10.0), (100, 0.0)])
def test_a_service_answers_each_its_own(kind, batch, deadline_s):
    """With batch 100 and a long deadline only "every client waits" can end a batch; it must not last 10 s."""
    engine = engine_of(kind)
    sizes, results = engine.run(serve, batch, deadline_s, 3, 4)
    assert sum(sizes) == 12
    assert max(sizes) <= batch
    assert all(answer == question for answer, question in results)
    assert row(engine, "OBS")["count"] == row(engine, "ACT")["count"] == 12
    if batch == 100 and deadline_s == 10.0 and kind != "threads":
        assert sizes == [3, 3, 3, 3]


@pytest.mark.parametrize("kind", FIXED)
def test_a_deadline_is_in_virtual_time(kind):
    """One client asks at once, the other works for 5 units of 1 ms: a deadline of 2 ms comes between."""

    def busy(index, service):
        for _ in range(index * 5):
            phase("work", work)
        service.call(index)

    def program(deadline_s):
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, deadline_s)
            s.spawn("actor", 2, busy, service)
            requests = service.take()
            service.reply(requests, requests)
            return [r.index for r in requests]

    assert engine_of(kind).run(program, 0.002) == [0]
    assert engine_of(kind).run(program, 0.008) == [0, 1]


def test_a_deadline_on_threads_is_real():
    """One client asks at once, the other is busy until the server has answered."""
    served = threading.Event()

    def client(index, service):
        if index == 0:
            service.call(0)
        else:
            phase("busy", served.wait, 20)

    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 2, 0.01)
            s.spawn("actor", 2, client, service)
            requests = service.take()
            in_time = not served.is_set()
            served.set()
            service.reply(requests, requests)
            return in_time, [r.index for r in requests]

    assert engine_of("threads").run(program) == (True, [0])


@on_every_engine
def test_an_answer_to_a_restarted_client_is_thrown_away(kind):
    def flaky(index, service, results):

        if me().epoch == 0:
            service.send("lost")
            raise ValueError("after asking")
        results.put(service.call("asked anew"))

    def program():
        with system("s", "inference") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            results = s.channel("RESULT", "actor", "inference", 1)
            s.spawn("actor", 1, flaky, service, results, on_failure="restart")
            first = service.take()
            second = service.take()
            service.reply(first, ["too late"])
            service.reply(second, ["right"])
            return first[0].epoch, second[0].epoch, results.get()

    assert engine_of(kind).run(program) == (0, 1, ["right"])


@on_every_engine
def test_a_restarted_server_gets_first_what_it_had_not_answered(kind):
    def fails_once(index, service):
        while True:
            requests = service.take()
            if me().epoch == 0 and requests[0].item >= 1:
                raise ValueError("after taking")
            service.reply(requests, [(me().epoch, request.item) for request in requests])

    def client(index, service, results):
        results.put([service.call(number) for number in range(3)])

    def program():
        with system("s", "body") as s:
            service = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            results = s.channel("RESULT", "actor", "body", 1)
            s.spawn("inference", 1, fails_once, service, on_failure="restart")
            s.spawn("actor", 1, client, service, results)
            return results.get()

    assert engine_of(kind).run(program) == [[(0, 0), (1, 1), (1, 2)]]


@on_every_engine
def test_a_ticket_is_good_for_once(kind):
    def program():
        with system("s", "both") as s:
            service = s.service("OBS", "ACT", "both", "both", 1, 1.0)
            ticket = service.send(1)
            requests = service.take()
            service.reply(requests, [2])
            assert service.result(ticket) == 2
            service.result(ticket)

    with pytest.raises(ShoalError, match="a ticket is good for once"):
        engine_of(kind).run(program)
