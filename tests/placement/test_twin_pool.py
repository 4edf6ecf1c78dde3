# SPDX-License-Identifier: Apache-2.0
"""Environments in workers, in virtual time: what the formula says of sleepers and of those that compute, who answers
first, and the same twice."""

import dataclasses

import numpy as np
import pytest

from placement.made_up import curve, point, profile
from shoal.architectures import presets
from shoal.engines import Beside, Machine, Site, Work, make_engine, now, phase
from shoal.errors import ShoalError
from shoal.placement.machines import MachineFacts
from shoal.placement.prediction import predict
from shoal.placement.twin_pool import TwinPool, stepping_of
from shoal.types import ArraySpec, Discrete, EnvSpec

SPEC = EnvSpec("pooled", ArraySpec((1,), "float32"), Discrete(2))
SLEEP, BUSY = Work(0.01, idle=0.01), Work(0.01)


def in_time(program, cores=2.0, costs=None):
    """What a program returns in virtual time, everybody a process on one node."""
    machine = Machine([cores], lambda *_: Site(0, None))
    return make_engine("simulated", costs=costs or {"*": 0.0}, machine=lambda: machine).run(program)


def pool_of(num_envs, workers, work):
    """A pool whose every step is the same, or by slot in the order of sending."""
    works = iter(work) if isinstance(work, list) else None

    def stepping(count, apart):
        return [work if works is None else next(works) for _ in range(count)]

    pool = TwinPool(SPEC, num_envs, 0, workers=workers, stepping=stepping)
    pool.reset(0)
    pool.recv()
    return pool


def seconds_of_steps(num_envs, workers, work, cores, steps=5):
    def program():
        pool, began = pool_of(num_envs, workers, work), now()
        for _ in range(steps):
            pool.send(np.zeros(num_envs))
            assert len(pool.recv().slots) == num_envs
        return (now() - began) / steps

    return in_time(program, cores)


def test_work_beside_shares_the_cores():
    def program():
        beside, answered = Beside(2), []
        for number in (0, 1):
            beside.begin(number, Work(1.0), lambda number=number: answered.append((number, now())))
        assert beside.wait(lambda: len(answered) == 2)
        return answered

    assert in_time(program, 2.0) == [(0, 1.0), (1, 1.0)]
    assert in_time(program, 1.0) == [(0, 2.0), (1, 2.0)]


@pytest.mark.parametrize("engine", ["threads", "inline"])
def test_work_beside_is_for_simulated_time(engine):
    with pytest.raises(ShoalError, match="use engine 'simulated'"):
        make_engine(engine).run(lambda: Beside(1).begin(0, BUSY, lambda: None))


@pytest.mark.parametrize(("num_envs", "workers"), [(8, 1), (8, 2), (8, 4), (8, 8), (6, 4)])
def test_sleepers_take_the_formulas_time_on_any_cores(num_envs, workers):
    most = -(-num_envs // workers)
    assert seconds_of_steps(num_envs, workers, SLEEP, cores=1.0) == pytest.approx(most * 0.01)


@pytest.mark.parametrize(("workers", "cores"), [(1, 2), (2, 2), (4, 2), (8, 4), (4, 8)])
def test_those_that_compute_share_the_cores(workers, cores):
    assert seconds_of_steps(8, workers, BUSY, float(cores)) == pytest.approx(8 * 0.01 / min(workers, cores))


def test_waiting_is_the_phases_time_and_is_paid_once():
    def program():
        pool = pool_of(4, 2, SLEEP)

        def step():
            pool.send(np.zeros(4))
            pool.recv()

        phase("env_step", step)
        return now()

    machine = Machine([2.0], lambda *_: Site(0, None))
    engine = make_engine("simulated", costs={"*": 0.0}, machine=lambda: machine)
    assert engine.run(program) == pytest.approx(0.02)
    assert [phases["env_step"] for phases in engine.phases().values() if "env_step" in phases] == [pytest.approx(0.02)]


def test_a_slow_sibling_does_not_stall_the_others():
    def program():
        slow = Work(1.0, idle=1.0)
        pool = pool_of(3, 3, [slow] + [SLEEP] * 100)
        pool.send(np.zeros(3))
        fast = []
        for _ in range(20):
            steps = pool.recv(2)
            fast.append(steps.slots.tolist())
            pool.send(np.zeros(len(steps.slots)), steps.slots)
        between = now()
        assert pool.recv().slots.tolist() == [0, 1, 2]
        return fast, between, now()

    fast, between, end = in_time(program)
    assert fast == [[1, 2]] * 20
    assert between == pytest.approx(20 * 0.01)
    assert end == pytest.approx(1.0)


def test_a_worker_answers_one_by_one_once_not_all_are_waited_for():
    """The first steps are handed out before the pool knows, as in the real one."""

    def program():
        pool = pool_of(4, 1, SLEEP)
        pool.send(np.zeros(4))
        together = pool.recv(1).slots.tolist()
        pool.send(np.zeros(4))
        return together, [pool.recv(1).slots.tolist() for _ in range(4)]

    assert in_time(program) == ([0, 1, 2, 3], [[0], [1], [2], [3]])


def test_a_deadline_counts_from_the_first_that_is_ready():
    def program():
        pool = pool_of(3, 3, [Work(s, idle=s) for s in (0.3, 0.1, 0.2)])
        pool.send(np.zeros(3))
        first = pool.recv(3, deadline_s=0.05).slots.tolist(), now()
        return first, (pool.recv(2, deadline_s=1.0).slots.tolist(), now())

    (first, at), (rest, end) = in_time(program)
    assert (first, rest) == ([1], [0, 2])
    assert (at, end) == (pytest.approx(0.15), pytest.approx(0.3))


def uneven_profile():
    """Steps of 1 ms that differ, and a learner that does not matter."""
    one = dataclasses.replace(point(1, 1e-3), p99_s=4e-3)
    made = profile(step=(0.0, 1e-3), update={"cpu": (0.0, 1e-7)})
    return dataclasses.replace(made, architecture="a2c", env_step=dataclasses.replace(made.env_step, points=(one,)))


def config_of(architecture="a2c", **fields):
    shape = {"num_actors": 1, "envs_per_actor": 8, "unroll_length": 16, "env_workers": 4}
    return dataclasses.replace(presets.preset(architecture, profile().env.spec()), **{**shape, **fields})


FOUR = MachineFacts(name="four", cores=4)
WAYS = [
    {"sampler": "central"}, {"sampler": "central", "inference_batch": 4}, {"sampler": "alternating"},
    {"sampler": "async"}, {"sampler": "central", "inference_deadline_s": 0.001},
]  # fmt: skip


@pytest.mark.parametrize("fields", WAYS)
def test_twice_the_same_is_the_same_and_another_seed_differs(fields):
    config = config_of(**fields)
    first, again = (predict(uneven_profile(), "a2c", FOUR, config) for _ in range(2))
    assert first == again
    other = predict(uneven_profile(), "a2c", FOUR, config, seed=1)
    assert other.env_steps_per_s != first.env_steps_per_s
    assert other.env_steps_per_s == pytest.approx(first.env_steps_per_s, rel=0.1)


def test_steps_are_drawn_for_each_environment():
    stepping = stepping_of(uneven_profile())
    works = stepping(5_000, True)
    assert len({work.seconds for work in works}) == 5_000
    assert np.mean([work.seconds for work in works]) == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("architecture", ["a2c", "impala", "appo", "ppo", "seed"])
def test_workers_are_as_much_faster_as_they_are_many(architecture):
    made = dataclasses.replace(
        profile(step=(0.0, 5e-3), step_cores=0.0), architecture="a2c", update={"cpu": curve(0.0, 1e-7, (256, 4096))}
    )
    many = MachineFacts(name="many", cores=64)
    one, four = (predict(made, architecture, many, config_of(architecture, env_workers=n)) for n in (1, 4))
    assert four.env_steps_per_s == pytest.approx(4 * one.env_steps_per_s, rel=0.05)


def test_few_waited_for_are_served_at_the_cost_of_few():
    """Two environments a worker, inference that takes 1 ms a row: by fours while the others step."""
    made = dataclasses.replace(
        profile(step=(0.0, 1e-3), step_cores=0.0, inference={"numpy": (0.0, 1e-3)}),
        architecture="a2c",
        update={"cpu": curve(0.0, 1e-7, (256, 4096))},
    )
    fields = {"env_workers": 4, "unroll_length": 64, "sampler": "central"}
    whole, by_four = (predict(made, "a2c", FOUR, config_of(**fields, inference_batch=n)) for n in (0, 4))
    assert whole.env_steps_per_s == pytest.approx(8 / 10e-3, rel=0.02)
    assert by_four.env_steps_per_s == pytest.approx(1 / 1e-3, rel=0.03)
