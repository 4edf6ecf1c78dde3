# SPDX-License-Identifier: Apache-2.0
"""The contract that every adapter keeps, whatever environment is behind it."""

import functools
import pickle

import numpy as np
import pytest

from envs.recording import CASES, Case, Recording, actions, assert_same, factory_of, record, record_from

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def recorded(index: int) -> Recording:
    return record(CASES[index])


def rows_of(case: Case) -> Recording:
    return recorded(CASES.index(case))


@every_case
def test_initial_rows_only_reset(case):
    rows = rows_of(case)
    assert not rows.valid[0].any()
    assert not rows.ended[0].any()
    assert not rows.reward[0].any()


@every_case
def test_rows_have_the_declared_shapes_and_dtypes(case):
    env = factory_of(case).make(3)
    env.reset(0)
    initial = env.recv()
    env.send(actions(env, 0, 0))
    for rows in (initial, env.recv()):
        assert rows.obs.shape == (3, *env.spec.obs.shape)
        assert rows.obs.dtype == env.spec.obs.dtype
        assert rows.reward.dtype == np.float32
        assert [field.shape for field in rows[2:]] == [(3,)] * 4
        assert [field.dtype for field in rows[3:]] == [bool] * 3
        assert list(rows.slots) == [0, 1, 2]
    env.close()


@every_case
def test_the_row_after_an_end_only_resets(case):
    rows = rows_of(case)
    after = rows.ended[:-1]
    np.testing.assert_array_equal(rows.valid[1:], ~after)
    assert not rows.ended[1:][after].any()
    assert not rows.reward[1:][after].any()


@every_case
def test_episodes_end_as_declared(case):
    rows = rows_of(case)
    seen = {name for name in ("terminated", "truncated") if getattr(rows, name).any()}
    assert seen == case.ends


@every_case
def test_the_row_that_ends_holds_the_final_obs(case):
    rows = rows_of(case)
    if not case.obs_depend_on_seed:
        return
    for step, slot in np.argwhere(rows.ended[:-1]):
        assert not np.array_equal(rows.obs[step, slot], rows.obs[step + 1, slot])


@every_case
def test_same_seed_same_data(case):
    assert_same(rows_of(case), record(case))


@every_case
def test_other_seed_other_data(case):
    rows, other = rows_of(case), record(case, seed=8)
    # Pong's first screens are the same for all seeds, so the whole recording is compared
    assert not np.array_equal(rows.obs, other.obs) or not case.obs_depend_on_seed
    assert not np.array_equal(rows.reward, other.reward) or case.obs_depend_on_seed


@every_case
def test_environments_of_one_actor_differ(case):
    rows = rows_of(case)
    assert not np.array_equal(rows.obs[:, 0], rows.obs[:, 1]) or not case.obs_depend_on_seed
    assert not np.array_equal(rows.reward[:, 0], rows.reward[:, 1]) or case.obs_depend_on_seed


@every_case
def test_split_invariance_is_declared_honestly(case):
    factory = factory_of(case)
    whole = rows_of(case)
    halves = [record(case, num_envs=2, first_index=first) for first in (0, 2)]
    joined = Recording(*(np.concatenate([getattr(half, name) for half in halves], 1) for name in vars(whole)))
    same = all(np.array_equal(values, getattr(joined, name)) for name, values in vars(whole).items())
    assert same == factory.split_invariant == factory.make(1).split_invariant


@every_case
def test_reset_starts_anew_at_any_time(case):
    env = factory_of(case).make(4)
    record_from(env, seed=8, steps=min(case.steps, 11))
    env.send(actions(env, 11, 0))
    # an action is under way: its row must not come out after the reset
    assert_same(rows_of(case), record_from(env, seed=7, steps=case.steps))
    env.close()


@every_case
def test_rows_are_the_receivers_until_its_next_recv(case):
    env = factory_of(case).make(4)
    env.reset(7)
    for step in range(3):
        rows = env.recv()
        copies = [np.array(field) for field in rows]
        env.send(actions(env, step, 0))
        for field, copy in zip(rows, copies, strict=True):
            np.testing.assert_array_equal(field, copy)
    env.close()


@every_case
def test_slots(case):
    """Environments stepped apart, in odd orders, give the same data as stepped together."""
    env = factory_of(case).make(4)
    env.reset(7)
    env.recv()
    whole = rows_of(case)
    for step in range(min(case.steps, 20)):
        action = actions(env, step, 0)
        if not case.takes_slots:
            with pytest.raises(ValueError, match="step together"):
                env.send(action[:2], np.array([0, 1]))
            orders = [np.array([3, 0, 2, 1])]
        else:
            orders = [np.array([3, 1]), np.array([0]), np.array([2])]
        for slots in orders:
            env.send(action[slots], slots)
            rows = env.recv(min_ready=1)
            for position, slot in enumerate(rows.slots):
                np.testing.assert_array_equal(rows.obs[position], whole.obs[step + 1, slot])
                assert rows.reward[position] == whole.reward[step + 1, slot]
                assert rows.valid[position] == whole.valid[step + 1, slot]
            assert set(rows.slots) == set(slots)
    env.close()


@every_case
def test_misuse_is_refused(case):
    env = factory_of(case).make(2)
    env.reset(0)
    with pytest.raises(ValueError, match="before its last row"):
        env.send(actions(env, 0, 0))
    env.recv()
    with pytest.raises(ValueError, match="nothing to receive"):
        env.recv()
    with pytest.raises(ValueError, match="3 actions for 2"):
        env.send(np.concatenate([actions(env, 0, 0), actions(env, 0, 0)])[:3])
    env.close()
    with pytest.raises(ValueError, match="at least 1"):
        factory_of(case).make(0)


@every_case
def test_close_is_repeatable_and_works_under_way(case):
    env = factory_of(case).make(2)
    env.reset(0)
    env.recv()
    env.send(actions(env, 0, 0))
    env.close()
    env.close()


@every_case
def test_factory_travels_to_other_processes(case):
    factory = factory_of(case)
    travelled = pickle.loads(pickle.dumps(factory))
    assert (travelled.name, travelled.spec) == (factory.name, factory.spec)
    env = travelled.make(4)
    assert_same(rows_of(case), record_from(env, 7, case.steps))
    env.close()
