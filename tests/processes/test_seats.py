# SPDX-License-Identifier: Apache-2.0
"""Placements: their notation, who takes which seat, what is refused, and where children really run."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.architectures import registry
from shoal.architectures.placing import check_placement, use_placement
from shoal.engines import make_engine, system
from shoal.errors import ConfigError
from shoal.processes.launch import Launcher
from shoal.processes.seats import (
    EXAMPLE,
    ROLES,
    Seat,
    allowed_cpus,
    parse_placement,
    require_allowed,
    seat_of,
    seating,
    show_placement,
)

FIRST, LAST = allowed_cpus()[0], allowed_cpus()[-1]
seats = st.builds(
    Seat,
    st.sets(st.integers(0, 40), min_size=1, max_size=6).map(lambda cpus: tuple(sorted(cpus))),
    st.integers(1, 20),
    st.none() | st.integers(1, 8),
)
placements = st.dictionaries(st.sampled_from(ROLES), st.lists(seats, min_size=1, max_size=4).map(tuple))


@pytest.fixture
def seated():
    """Where this test may seat its process: it gets up afterwards."""
    before, threads = os.sched_getaffinity(0), os.environ.copy()
    yield
    use_placement({})
    os.sched_setaffinity(0, before)
    os.environ.clear()
    os.environ.update(threads)


@given(placements)
def test_what_is_shown_is_read_again(placement):
    assert parse_placement(show_placement(placement)) == placement


def test_the_notation_is_as_short_as_it_can_be():
    assert show_placement(parse_placement(EXAMPLE)) == EXAMPLE
    assert show_placement(parse_placement(" env=cpu3+1-2x2t1,cpu0  act=cpu0-0 ")) == "env=cpu1-3x2t1,cpu0 act=cpu0"


@given(placements, st.integers(0, 100))
def test_workers_take_seats_in_order_and_then_from_the_first_again(placement, number):
    for role, found in placement.items():
        line = [seat for seat in found for _ in range(seat.workers)]
        assert seat_of(placement, role, number) == line[number % len(line)]
    for role in set(ROLES) - set(placement):
        assert seat_of(placement, role, number) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu=cpu0", "'gpu=cpu0' is no role=seats"),
        ("act", "'act' is no role=seats"),
        ("act=cpu0 act=cpu1", "'act=cpu1' is named twice"),
        ("act=0", "'0' is no seat"),
        ("act=cpu1-0", "cpu1-0 goes the wrong way"),
        ("act=cpu0x0", "needs 1 to"),
        ("act=cpu0t0", "needs 1 to"),
        ("act=cpu9999999999", "beyond"),
        ("act=cpu0,", "'' is no seat"),
    ],
)
def test_what_is_no_placement_is_refused_in_one_line(text, said):
    for refuse in (parse_placement, lambda text: registry.load("impala").Config(placement=text)):
        with pytest.raises(ConfigError) as refused:
            refuse(text)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


def test_processors_outside_the_allowed_ones_are_refused_by_name():
    with pytest.raises(ConfigError, match=rf"act=cpu{LAST + 1}: cpu{LAST + 1} is not among those .* may use, cpu"):
        require_allowed(parse_placement(f"act=cpu{LAST + 1}"))
    with pytest.raises(ConfigError, match="is not among those"):
        use_placement({"placement": f"learn=cpu{LAST + 1}"})
    require_allowed(parse_placement(f"act=cpu{FIRST} learn=cpu{LAST}"))


@pytest.mark.parametrize(
    ("fields", "engine", "said"),
    [
        ({"placement": "act=cpu0"}, "threads", "act=cpu0 cannot be on --engine threads"),
        ({"placement": "infer=cpu0"}, "inline", "infer=cpu0 cannot be on --engine inline"),
        ({"placement": "env=cpu0"}, "processes", "env=cpu0 has no processes to place"),
        ({"placement": "env=cpu0x3", "env_workers": 2}, "threads", "env=cpu0x3 seats 3 workers, this run has 2"),
        ({"placement": "act=cpu0x3", "num_actors": 2}, "processes", "seats 3 workers, this run has 2 actors"),
    ],
)
def test_placements_of_processes_that_there_are_not_are_refused(fields, engine, said):
    config = registry.load("a2c").Config(**fields)
    with pytest.raises(ConfigError) as refused:
        check_placement(config, engine)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_placements_that_fit_are_taken():
    fine = {"placement": "env=cpu0x4 act=cpu0,cpu1 learn=cpu0-1", "num_actors": 2, "env_workers": 2}
    check_placement(registry.load("a2c").Config(**fine), "processes")
    check_placement(registry.load("a2c").Config(placement="learn=cpu0"), "inline")


def test_a_child_runs_where_its_seat_is_and_others_wherever_they_may(seated):
    use_placement({"placement": f"act=cpu{FIRST}t3,cpu{LAST} learn=cpu{FIRST}"})
    assert os.sched_getaffinity(0) == {FIRST}  # the learner is this process
    server = Launcher.start()
    try:
        told = []
        for seat in (("act", 0), ("act", 1), ("act", 2), (None, 0)):
            child = server.launch("processes.children:where", seat=seat)
            told.append(child.link.receive().header)
            child.close()
    finally:
        server.close()
    assert [found["cpus"] for found in told] == [[FIRST], [LAST], [FIRST], list(allowed_cpus())]
    assert [found["threads"] for found in told[:3]] == ["3", "1", "3"]
    assert all(found["placement"] == seating.text and found["allowed"] == list(allowed_cpus()) for found in told)
    use_placement({})
    assert os.sched_getaffinity(0) == set(allowed_cpus())


def test_workers_of_an_engine_are_seated_by_their_role(seated):
    from processes.places import tell

    use_placement({"placement": f"act=cpu{LAST},cpu{FIRST}"})

    def program():
        with system("seats", "learner") as s:
            told = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 2, tell, told)
            return told.get(2, by_sender=True)

    assert make_engine("processes").run(program) == [[LAST], [FIRST]]


def test_environment_workers_are_seated_over_all_actors(seated):
    import psutil

    from shoal import envs
    from shoal.envs.pool import in_workers

    use_placement({"placement": f"env=cpu{FIRST}x2,cpu{LAST}x2"})
    make = in_workers(envs.resolve("toy:catch"), 2, 60.0)
    for first_index, cpus in ((0, [FIRST]), (4, [LAST])):
        pool = make(4, first_index)
        try:
            assert [psutil.Process(m.child.pid).cpu_affinity() for m in pool._members] == [cpus, cpus]
        finally:
            pool.close()
