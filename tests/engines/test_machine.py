# SPDX-License-Identifier: Apache-2.0
"""Workers in virtual time share cores, interpreters, devices and links: who is beside whom decides how long work takes,
and a slow reference that goes on in tiny steps finds the same."""

import random

import numpy as np
import pytest

from shoal.engines import make_engine, phase, system
from shoal.engines.kernels.machine import Link, Machine, Pool, Site, Work, pieces_of
from shoal.errors import ConfigError


def alone_each(*_):
    """Every worker a process of its own on the first node."""
    return Site(0, None)


def over_two_nodes(_path, _role, index):
    """Workers by turns on two nodes, each a process of its own."""
    return Site(index % 2, None)


def seconds_of(works, cores, place=lambda *_: Site(), times=1, crowding=1.0):  # noqa: PLR0913 a machine and its work
    """(virtual seconds until every worker has ended its work `times` times, core seconds of each node)."""
    machines = []

    def machine():
        machines.append(Machine(cores, place, crowding=crowding))
        return machines[0]

    def work(index, ended):
        for _ in range(times):
            phase("work", lambda index: index, index)
        ended.put(index)

    def program():
        with system("s", "learner") as s:
            ended = s.channel("TRAJ", "actor", "learner", len(works))
            s.spawn("actor", len(works), work, ended)
            ended.get(len(works))

    engine = make_engine("simulated", costs={"work": lambda index: works[index]}, machine=machine)
    engine.run(program)
    return engine.now(), [node.busy_s for node in machines[0].nodes]


@pytest.mark.parametrize(
    ("workers", "work", "cores", "place", "seconds"),
    [
        (1, Work(1.0), [2], alone_each, 1.0),
        (2, Work(1.0), [2], alone_each, 1.0),
        (4, Work(1.0), [2], alone_each, 2.0),
        (3, Work(1.0), [2], alone_each, 1.5),
        (4, Work(1.0, cores=2.0), [2], alone_each, 4.0),
        (4, Work(1.0, idle=1.0), [2], alone_each, 1.0),
        (4, Work(1.0, idle=0.5), [2], alone_each, 1.5),
        (4, Work(1.0, python=1.0), [2], alone_each, 2.0),
        (4, Work(1.0, python=1.0), [2], lambda *_: Site(), 4.0),
        (4, Work(1.0), [2, 2], over_two_nodes, 1.0),
        (4, Work(1.0, device="gpu"), [1], alone_each, 4.0),
    ],
)
def test_what_is_shared_takes_longer(workers, work, cores, place, seconds):
    took, _ = seconds_of([work] * workers, cores, place)
    assert took == pytest.approx(seconds)


def test_a_server_takes_one_after_the_other_on_a_core_of_the_first_node():
    served = Work(1.0, server="main process")
    assert seconds_of([served] * 3, [4, 4], over_two_nodes) == (3.0, [3.0, 0.0])
    beside_it = [served, served, Work(2.0)]
    assert seconds_of(beside_it, [2], alone_each)[0] == 2.0
    assert seconds_of(beside_it, [1], alone_each)[0] == 4.0


def test_a_server_of_every_node_takes_one_after_the_other_of_its_own():
    near = Work(1.0, server="agent", near=True)
    assert seconds_of([near] * 4, [4, 4], over_two_nodes) == (2.0, [2.0, 2.0])


def test_an_interpreter_that_others_want_costs_more_to_have():
    handed = Work(1.0, python=1.0, handing=0.5)
    assert seconds_of([handed], [2])[0] == 1.0
    assert seconds_of([handed] * 3, [2])[0] == 4.0  # the second and the third find it taken
    assert seconds_of([handed] * 2, [2], alone_each)[0] == 1.0  # each has its own


@pytest.mark.parametrize(
    ("works", "seconds"),
    [
        ([Work(1.0)], 1.0),
        ([Work(1.0)] * 2, 1.5),  # both cores compute
        ([Work(1.0)] * 4, 3.0),
        ([Work(1.0, cores=2.0)], 1.0),  # which its seconds hold already
        ([Work(1.0, idle=1.0)] * 4, 1.0),
    ],
)
def test_cores_that_all_compute_slow_one_another_down(works, seconds):
    assert seconds_of(works, [2], alone_each, crowding=1.5)[0] == pytest.approx(seconds)


def test_half_of_the_other_cores_slow_down_by_half():
    assert seconds_of([Work(1.0)] * 3, [5], alone_each, crowding=1.5)[0] == pytest.approx(1.25)


def test_a_message_may_be_several_works():
    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "learner", "learner", 1)
            channel.put(np.zeros(5))

    costs = {"put TRAJ": lambda nbytes, _: [Work(1.0, idle=1.0), Work(nbytes / 40)], "*": 0.0}
    engine = make_engine("simulated", costs=costs, machine=lambda: Machine([1]))
    engine.run(program)
    assert engine.now() == 2.0


def test_half_in_python_goes_on_beside_the_other_half():
    """Two threads, each half in the interpreter and half outside: once out of step, neither waits any more."""
    took, _ = seconds_of([Work(1.0, python=0.5)] * 2, [2], times=200)
    assert took == pytest.approx(200.5)
    took, _ = seconds_of([Work(1.0, python=0.5)] * 3, [2], times=200)
    assert took == pytest.approx(300, rel=0.01)  # the interpreter is always held


def test_cores_are_accounted_for():
    took, busy = seconds_of([Work(1.0), Work(3.0, idle=1.0, cores=0.5), Work(2.0, device="gpu")], [2])
    assert busy == [pytest.approx(1.0 + 2.0 * 0.5)]
    assert took == pytest.approx(3.0)


def test_a_slowed_worker_takes_longer_for_all_of_its_work():
    def program():
        phase("work", lambda: None)

    engine = make_engine(
        "simulated", costs={"work": Work(2.0, idle=1.0)}, slow={"main": 3.0}, machine=lambda: Machine([1])
    )
    engine.run(program)
    assert engine.now() == pytest.approx(6.0)


def reference(works, cores, step=1e-3):
    """Seconds until all works are done, going on in tiny steps: idle time, then the interpreter, then cores."""
    left = [[("idle", work.idle, 0.0), *((kind, s, c) for kind, _, s, c in pieces_of(work, Site()))] for work in works]
    left = [[piece for piece in pieces if piece[1] > 0] for pieces in left]
    now, queue = 0.0, []
    while any(left):
        first = {i: pieces[0] for i, pieces in enumerate(left) if pieces}
        queue = [i for i in queue if i in first and first[i][0] == "python"]
        queue += [i for i in first if first[i][0] == "python" and i not in queue]
        wanted = sum(want for kind, _, want in first.values() if kind == "cores") + bool(queue)
        share = min(1.0, cores / wanted) if wanted else 1.0
        for i, (kind, seconds, want) in first.items():
            pace = {"idle": 1.0, "cores": share, "python": share * (i in queue[:1])}[kind]
            left[i][0] = (kind, seconds - pace * step, want)
            if left[i][0][1] <= step / 2:
                del left[i][0]
        now += step
    return now


@pytest.mark.parametrize("seed", range(8))
def test_against_a_reference_in_tiny_steps(seed):
    draw = random.Random(seed)

    def work():
        cores, python = draw.choice((1.0, 1.5)), draw.choice((0.0, 0.5, 1.0))
        return Work(draw.uniform(0.5, 2), idle=draw.uniform(0, 0.4), cores=cores, python=python)

    works = [work() for _ in range(draw.randint(2, 7))]
    took, _ = seconds_of(works, [2])
    assert took == pytest.approx(reference(works, 2), rel=0.02)


def test_the_reference_knows_how_many_cores_there_are():
    works = [Work(1.0)] * 6
    assert reference(works, 2) == pytest.approx(3.0, rel=0.02)
    assert reference(works, 3) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("place", [alone_each, over_two_nodes, lambda *_: Site()])
def test_who_began_first_comes_first_where_ends_are_at_one_moment(place):
    """Actors begin in order of their index, at moments in between which nothing ends; two of them end together."""

    def work(index, ended):
        phase("wait", lambda index: index, index)
        phase("work", lambda index: index, index)
        ended.put(index)

    def program():
        with system("s", "learner") as s:
            ended = s.channel("TRAJ", "actor", "learner", 6)
            s.spawn("actor", 6, work, ended)
            return [(index, engine.now()) for index in (ended.get()[0] for _ in range(6))]

    def wait(index):
        return 0.25 * index

    def rest(index):
        return Work(8.0 - 0.25 * index, device=f"gpu {index}")

    engine = make_engine("simulated", costs={"wait": wait, "work": rest}, machine=lambda: Machine([6, 6], place))
    assert engine.run(program) == [(index, 8.0) for index in range(6)]


def test_the_same_twice():
    works = [Work(0.1 * (i + 1), idle=0.05, python=0.3) for i in range(5)]
    assert seconds_of(works, [2], times=20) == seconds_of(works, [2], times=20)
    assert seconds_of(works, [2], times=20) != seconds_of(works, [1], times=20)


@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
def test_only_simulated_time_has_a_machine(engine):
    with pytest.raises(ConfigError, match=f"{engine} runs on the real one"):
        make_engine(engine, machine=lambda: Machine([1]))


def test_messages_between_nodes_share_the_link_of_the_one_who_is_one_for_many():
    """Four actors on four nodes send a megabyte each to a learner on a fifth, over a link of a megabyte a second."""

    def produce(index, trajectories):
        trajectories.put(np.zeros(10**6, np.uint8))

    def program():
        with system("s", "learner") as s:
            trajectories = s.channel("TRAJ", "actor", "learner", 4)
            s.spawn("actor", 4, produce, trajectories)
            trajectories.get(4)

    def run(place):
        link = Link(0.5, 1e6)
        engine = make_engine("simulated", costs={"*": 0.0}, machine=lambda: Machine([1] * 5, place, link))
        engine.run(program)
        return engine.now()

    assert run(lambda _path, role, index: Site(1 + index if role == "actor" else 0, None)) == pytest.approx(4.5)
    assert run(lambda *_: Site()) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_pieces_leave_a_pool_in_the_order_of_their_ends(seed):
    rng, pool, left = random.Random(seed), Pool("cores"), []
    for order in range(400):
        if left and rng.random() < 0.5:
            assert pool.first == min(left)[0]
            first = pool.take()
            assert first == min(left)
            left.remove(first)
        else:
            left.append((float(order + rng.choice([0, 0, 0, 50, -50])), order, None, 1.0))
            pool.add(left[-1])
        assert pool.count == len(left)
    assert [pool.take() for _ in range(len(left))] == sorted(left)
