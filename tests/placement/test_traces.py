# SPDX-License-Identifier: Apache-2.0
"""Phases timed one by one: whose they are, over which rows, and what messages between workers take."""

import dataclasses
import math

import pytest

from placement.made_up import point
from shoal import envs
from shoal.architectures import presets
from shoal.engines import make_engine, phase, system
from shoal.placement.passing import ENGINES, MUCH, RoundTrips, apart, measure_passing, passing_of
from shoal.placement.traces import curve_of, measure_trace, point_of, two_sizes
from shoal.placement.unit_costs import rows_of
from shoal.placement.workload import make_workload

FACTORY = envs.resolve("CartPole-v1")
REPLAY = {"prepare", "act", "env_step", "assemble", "build", "add", "draw", "update", "publish"}


@pytest.mark.parametrize(
    ("architecture", "phases"),
    [
        ("dqn", REPLAY),
        ("a3c", {"prepare", "act", "env_step", "assemble", "gradient", "push"}),
        ("pg", {"prepare", "act", "env_step", "assemble", "returns", "gradient", "update", "publish"}),
    ],
)
def test_a_trace_has_every_phase_of_its_architecture_at_two_sizes(architecture, phases):
    workload = make_workload(architecture, FACTORY, "auto")
    found = measure_trace(workload, seconds=0.01)
    assert found.architecture == architecture
    assert set(found.phases) == phases
    for config, of in zip(two_sizes(workload.config, frames=False), (0, 1), strict=True):
        for name, curve in found.phases.items():
            assert curve.points[min(of, len(curve.points) - 1)].size == rows_of(name, config)
    assert all(one.mean_s > 0 for curve in found.phases.values() for one in curve.points)


def test_rows_are_those_of_a_step_of_an_unroll_of_a_batch_or_of_a_message():
    spec = FACTORY.spec
    a2c = dataclasses.replace(presets.preset("a2c", spec), num_actors=3, envs_per_actor=4, unroll_length=10)
    found = {name: rows_of(name, a2c) for name in ("publish", "act", "env_step", "assemble", "update")}
    assert found == {"publish": 1, "act": 4, "env_step": 4, "assemble": 40, "update": 120}
    dqn = presets.preset("dqn", spec)
    assert rows_of("draw", dqn) == rows_of("update", dqn) == dqn.groups * dqn.batch_size
    assert rows_of("add", dqn) == dqn.envs_per_actor * dqn.unroll_length
    assert rows_of("gradient", presets.preset("gorila", spec)) == presets.preset("gorila", spec).batch_size


def test_the_slowest_calls_do_not_count_and_doing_nothing_is_taken_off():
    calls = [(1.0, 2.0)] * 95 + [(50.0, 2.0)] * 5
    found = point_of(8, calls, less=0.25)
    assert (found.calls, found.mean_s, found.cpu_s) == (100, 0.75, 1.75)


def test_of_several_points_at_a_size_the_first_counts():
    found = curve_of([point(8, 1.0), point(8, 2.0), point(2, 3.0)])
    assert [(one.size, one.mean_s) for one in found.points] == [(2, 3.0), (8, 1.0)]


def test_engines_on_one_thread_let_phases_be_called_around():
    seen = []

    def around(role, name, fn, args):
        seen.append((role, name, args))
        return fn(*args)

    def program():
        with system("s", "learner"):
            return phase("work", lambda x: 2 * x, 4)

    engine = make_engine("inline")
    engine.around = around
    assert engine.run(program) == 8
    assert seen == [("learner", "work", (4,))]


def test_workers_are_counted_by_role():
    counts = []

    def wait(_index, params):
        params.pull(at_least=1)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0.0)
            s.spawn("actor", 3, wait, params)
            counts.append(engine.headcount())
            params.publish(1.0)

    engine = make_engine("inline")
    engine.run(program)
    assert counts == [{"learner": 1, "actor": 3}]
    assert engine.headcount() == {}


def test_passing_is_measured_on_every_engine():
    """How much it costs nobody can say beforehand: on a busy machine the loops may take no longer than what is
    computed in them."""
    found = measure_passing(seconds=0.01)
    assert set(found) == set(ENGINES)
    for one in found.values():
        assert all(math.isfinite(cost) and cost >= 0 for cost in dataclasses.astuple(one))


def test_a_round_is_two_messages_and_many_bytes_are_what_it_takes_longer_with_them():
    rounds = RoundTrips(one=3.0, several=9.0, asked=2.0, asked_by_several=2.0, there=3.0 + MUCH, back=3.0 + 2 * MUCH)
    assert dataclasses.asdict(passing_of(rounds)) == {
        "wake_s": 0.5, "turn_s": 1.0, "call_wake_s": 1.0, "call_turn_s": 0.0, "pull_byte_s": 1.0, "put_byte_s": 2.0
    }  # fmt: skip


def test_what_took_no_longer_costs_nothing():
    """Many bytes that were faster than few, and no time at all."""
    found = passing_of(RoundTrips(one=4.0, several=3.0, asked=0.0, asked_by_several=6.0, there=1.0, back=3.5))
    assert dataclasses.astuple(found) == (2.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert set(dataclasses.astuple(passing_of(RoundTrips(*6 * (0.0,))))) == {0.0}


def test_what_a_round_takes_once_and_what_for_each_worker():
    assert apart(3.0, 9.0) == (1.0, 2.0)
    assert apart(3.0, 2.0) == (3.0, 0.0)
    assert apart(1.0, 7.0) == (0.0, 1.0)
