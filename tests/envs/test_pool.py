# SPDX-License-Identifier: Apache-2.0
"""Environments in workers: the data of the adapter in this process, in any order; what cannot be is one line."""

import resource
import threading
from dataclasses import replace

import numpy as np
import pytest

from envs.hostile import Raises
from envs.recording import CASES, Case, actions, assert_same, factory_of, joined, record, record_from, same
from shoal import envs, seeds
from shoal.architectures import a2c
from shoal.architectures.assemble import require_sampling
from shoal.envs.pool import in_workers
from shoal.envs.pool.rows import rows_over, size_of
from shoal.errors import ConfigError, EnvironmentFault, MemoryShort
from shoal.processes import limits
from shoal.processes.memory import Segment
from shoal.trees import read_at, tree_leaves, tree_map

SEED = 7
pytestmark = pytest.mark.usefixtures("fresh_server")
NAMES = (
    "CartPole-v1",
    "FrozenLake-v1",
    "toy:catch",
    "toy:dials",
    "envs.own:Walk",
    "envs.own:Trees frame_stack time_limit",
)
PLAIN = {case.name: case for case in CASES if not isinstance(case.kwargs.get("sizes"), list)}
SOME = [PLAIN[name] for name in NAMES]
APART = [case for case in SOME if case.takes_slots]


def pool_of(case: Case, workers: int = 2, num_envs: int = 4, first_index: int = 0):
    return in_workers(factory_of(case), workers, 60.0)(num_envs, first_index)


@pytest.fixture
def opened():
    """make(case, ...) -> a pool that is closed after the test."""
    pools = []

    def make(*args, **settings):
        pools.append(pool_of(*args, **settings))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def named(case):
    return case.name


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("case", SOME, ids=named)
def test_the_data_is_that_of_the_adapter_in_this_process(case, workers, opened):
    env = opened(case, workers)
    expected = record(case)
    if not factory_of(case).split_invariant and workers > 1:
        shares = ((1, 0), (1, 1), (2, 2))
        expected = joined([record(case, num_envs, first_index=first) for num_envs, first in shares])
    assert_same(record_from(env, SEED, case.steps), expected)
    assert env.have_imported("jax") == [False] * workers
    assert env.have_imported("numpy") == [True] * workers


def test_frames_and_several_actors(opened):
    case = next(case for case in CASES if case.name == "ale:breakout")
    env = opened(case, num_envs=2, first_index=3)
    assert_same(record_from(env, SEED, 30), record_from(factory_of(case).make(2, 3), SEED, 30))


@pytest.mark.parametrize("case", APART, ids=named)
def test_first_ready_gives_the_same_data(case, opened):
    """Each environment is sent its next action as soon as it has answered, whatever the others do."""
    env, expected = opened(case, workers=2, num_envs=4), record(case)
    env.reset(SEED)
    steps = np.full(4, -1)
    while steps.min() < 30:
        rows = env.recv(min_ready=1)
        steps[rows.slots] += 1
        for position, slot in enumerate(rows.slots):
            at = (steps[slot], slot)
            assert same(read_at(rows.obs, position), read_at(expected.obs, at))
            for name in ("reward", "terminated", "truncated", "valid"):
                assert getattr(rows, name)[position] == getattr(expected, name)[at]
        for slot in rows.slots[:: 1 if steps.min() % 2 else -1]:  # some orders
            if steps[slot] == len(expected.reward) - 1:
                continue  # on a busy machine one may be far behind
            action = actions(env, steps[slot], 0, read_at(expected.obs, steps[slot]))
            env.send(action[slot : slot + 1], np.array([slot]))


def test_a_slow_environment_does_not_hold_back_its_siblings_in_one_worker(opened, tmp_path):
    """Ready one by one: the first rows are there while the last environment of the same worker is still at it."""
    go = tmp_path / "go"
    env = opened(Case("envs.pooled:Held", {"go": str(go)}), workers=1, num_envs=3)
    env.reset(SEED)
    env.recv(min_ready=3)
    env.send(np.array([0, 0, 1]))
    assert env.recv(min_ready=2).slots.tolist() == [0, 1]
    go.touch()
    assert env.recv().slots.tolist() == [2]


def test_shares_that_step_together(opened):
    env, case = opened(PLAIN["CartPole-v1"], workers=2, num_envs=4), PLAIN["CartPole-v1"]
    halves = joined([record(case, 2, first_index=first) for first in (0, 2)])
    env.reset(SEED)
    assert env.recv().valid.tolist() == [False] * 4
    action = actions(env, 0, 0, read_at(halves.obs, 0))
    with pytest.raises(ValueError, match="all 2 environments step together"):
        env.send(action[:3], np.array([0, 1, 2]))
    env.send(action[[3, 2]], np.array([3, 2]))
    rows = env.recv()
    assert rows.slots.tolist() == [2, 3]
    assert same(rows.obs, halves.obs[1, 2:])
    env.send(action[:2], np.array([0, 1]))
    assert same(env.recv().obs, halves.obs[1, :2])


@pytest.mark.parametrize("case", SOME, ids=named)
def test_reset_starts_anew_at_any_time(case, opened):
    env = opened(case)
    rows = record_from(env, SEED + 1, 3)
    env.send(actions(env, 3, 0, read_at(rows.obs, -1)))
    halves = [record(case, 2, first_index=first) for first in (0, 2)]
    assert_same(record_from(env, SEED, case.steps), joined(halves))


def test_rows_are_the_receivers_until_its_next_recv(opened):
    env = opened(PLAIN["envs.own:Walk"])
    env.reset(SEED)
    for step in range(4):
        rows = env.recv()
        copies = tree_map(np.copy, rows)
        env.send(actions(env, step, 0, rows.obs))
        assert same(rows, copies)


def test_misuse_is_refused(opened):
    env = opened(PLAIN["toy:catch"])
    env.reset(SEED)
    with pytest.raises(ValueError, match="before its last row"):
        env.send(np.zeros(4, int))
    env.recv()
    with pytest.raises(ValueError, match="nothing to receive"):
        env.recv()
    with pytest.raises(ValueError, match="3 actions for 4"):
        env.send(np.zeros(3, int))
    env.send(np.zeros(4, int))
    env.close()
    env.close()


def test_rows_of_a_segment_do_not_overlap():
    spec = factory_of(PLAIN["envs.own:Trees frame_stack time_limit"]).spec
    segment = Segment.create(size_of(spec, 3))
    one, other = rows_over(segment, spec, 3), rows_over(segment, spec, 3)
    for number, leaf in enumerate(tree_leaves(tuple(one))):
        leaf[...] = number % 2 if leaf.dtype == bool else number
    for number, leaf in enumerate(tree_leaves(tuple(other))):
        assert (leaf == (number % 2 if leaf.dtype == bool else number)).all()


@pytest.mark.parametrize("name", ["Raises", "RaisesInReset", "Exits", "ShortObs"])
def test_a_fault_reads_as_it_does_in_this_process(name):
    assert_same_line(envs.resolve("envs.hostile:" + name))


def test_a_constructor_that_raises_reads_as_it_does_in_this_process(tmp_path):
    licence = tmp_path / "licence"
    licence.touch()
    factory = envs.resolve("envs.pooled:Licensed", {"licence": str(licence)})
    licence.unlink()
    assert_same_line(factory)


def assert_same_line(factory):
    lines = []
    for make in (factory.make, in_workers(factory, 1, 60.0)):
        with pytest.raises(EnvironmentFault) as caught:
            run(make)
        lines.append(str(caught.value))
        assert caught.value.exit_code == 3
    assert lines[0] == lines[1]
    assert "environment 4 " in lines[0]


def run(make):
    env = make(2, 4)
    try:
        env.reset(SEED)
        env.recv()
        for _ in range(6):
            env.send(np.zeros(2, int))
            env.recv()
    finally:
        env.close()


def config(**fields):
    return a2c.Config(**{"envs_per_actor": 4, "env_workers": 2, **fields})


def line_of(fault, **fields) -> str:
    with pytest.raises(fault) as caught:
        require_sampling(config(**fields), envs.resolve("toy:catch"), "auto")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_workers_than_environments_are_refused():
    with pytest.raises(ConfigError, match="env_workers=5 are more than the 4 environments of an actor; lower"):
        config(env_workers=5)
    with pytest.raises(ConfigError, match="env_workers=-1 must be 0 or more"):
        config(env_workers=-1)
    with pytest.raises(ConfigError, match="step_timeout=0 must be above 0"):
        config(step_timeout=0)


def test_more_workers_than_files_allow_are_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert "40 worker processes need 384 open files, 100 are allowed; lower num_actors or env_workers" in line_of(
        ConfigError, num_actors=20
    )


def test_more_workers_than_processes_allow_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "free_processes", lambda: 39)
    assert "40 worker processes are more than the 39 that may still be started; lower" in line_of(
        ConfigError, num_actors=20
    )
    monkeypatch.undo()
    assert 40 < limits.free_processes() < 10**8


def test_shared_memory_too_small_says_how_much_is_needed(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 5_000)
    needed = 20 * size_of(envs.resolve("toy:catch").spec, 4)
    assert f"needs {needed:,} bytes, 5,000 are free; lower" in line_of(MemoryShort, num_actors=20)


def test_what_no_name_leads_to_is_refused():
    nameless = envs.resolve(lambda: Raises())
    with pytest.raises(ConfigError, match="cannot be found by name in another process; put it into a module"):
        require_sampling(config(), nameless, "auto")
    require_sampling(config(), envs.resolve(Raises), "auto")  # a class of a module has one


def test_what_jax_steps_is_refused():
    def build(num_envs, first_index):
        raise AssertionError("never made")

    build.__module__ = "shoal.envs.jitted.host"
    jitted = replace(envs.resolve("toy:catch"), build=build)
    for refuse in (lambda: require_sampling(config(), jitted, "auto"), lambda: in_workers(jitted, 1, 60.0)):
        with pytest.raises(ConfigError, match="stepped by JAX, which workers do not have; set env_workers to 0"):
            refuse()


def test_no_workers_need_no_room(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 0)
    require_sampling(config(env_workers=0), envs.resolve("toy:catch"), "auto")


def test_other_seeds_give_other_data(opened):
    case = PLAIN["envs.own:Walk"]
    one, other = (record_from(opened(case), seed, 10) for seed in (SEED, SEED + 1))
    assert not same(one.obs, other.obs)
    assert seeds.derive(SEED, "env") != seeds.derive(SEED + 1, "env")


def test_a_deadline_takes_what_is_ready(opened, tmp_path):
    """The one that is held up is not waited for; before anything is ready the deadline does not run."""
    go = tmp_path / "go"
    env = opened(Case("envs.pooled:Held", {"go": str(go)}), workers=2, num_envs=2)
    env.reset(SEED)
    env.recv(deadline_s=60.0)
    env.send(np.array([0, 1]))
    assert env.recv(deadline_s=0.01).slots.tolist() == [0]
    threading.Timer(0.1, go.touch).start()
    assert env.recv(deadline_s=0.01).slots.tolist() == [1]
    env.send(np.array([1, 1]))
    assert len(env.recv(min_ready=1, deadline_s=1e-9).slots) > 0


def test_shares_that_step_together_are_ready_together(opened):
    env, case = opened(PLAIN["CartPole-v1"], workers=2, num_envs=6), PLAIN["CartPole-v1"]
    halves = joined([record(case, 3, first_index=first) for first in (0, 3)])
    env.reset(SEED)
    steps = np.full(6, -1)
    while steps.min() < 20:
        rows = env.recv(min_ready=1)
        assert rows.slots.tolist() in ([0, 1, 2], [3, 4, 5], [0, 1, 2, 3, 4, 5])
        steps[rows.slots] += 1
        assert same(rows.obs, halves.obs[steps[rows.slots], rows.slots])
        action = np.array([actions(env, steps[slot], 0, read_at(halves.obs, 0))[slot] for slot in rows.slots])
        env.send(action, rows.slots)
