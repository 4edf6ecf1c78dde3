# SPDX-License-Identifier: Apache-2.0
"""Sequences for a replay memory: of one episode each, every row learnt from once, whatever the unrolls were."""

import numpy as np
import pytest

from shoal.actors.sequences import Known, Sequencer, priorities
from shoal.agents.base import Judged

ROWS, ENVS = 60, 3


def made_up(seed=0, rows=ROWS):
    """Rows that can be told from one another, with episodes of all lengths, lost rows and waits before a reset."""
    random = np.random.default_rng(seed)
    flags = np.zeros((3, rows, ENVS), bool)
    terminated, truncated, valid = flags
    valid[:] = True
    for env in range(ENVS):
        t = 0
        while t < rows:
            end = t + int(random.integers(0, 14))
            if end >= rows:
                break
            kind = random.integers(3)
            (terminated if kind == 0 else truncated)[end, env] = True
            valid[end, env] = kind != 2  # lost with its worker
            waits = int(random.integers(1, 3))
            valid[end + 1 : end + 1 + waits, env] = False
            t = end + 1 + waits
    number = np.arange(rows + 1)[:, None] * 10.0 + np.arange(ENVS)
    action = np.arange(rows)[:, None] * 10 + np.arange(ENVS)
    return Known(
        obs={"at": number.astype(np.float32)},
        action=action,
        reward=np.where(valid, number[:-1], 0).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        version=action // 100,
        judged=Judged(number[:-1], -number[:-1]),
        memory=(number[:-1, :, None] + 0.5,),
    )


def cut(rows, unrolls, length=6, burn_in=2):
    """All sequences (steps, head), one by one."""
    sequencer, found = Sequencer(length, burn_in, ENVS), []
    begin = 0
    for size in unrolls:
        part = Known(*(_part(leaf, begin, begin + size) for leaf in rows))
        part = part._replace(obs={"at": rows.obs["at"][begin : begin + size + 1]})
        made = sequencer.add(part)
        begin += size
        if made is not None:
            steps, judged = made
            found += [(_one(steps, n), judged.taken[:, n]) for n in range(len(steps.version))]
    return found


def _part(leaf, begin, end):
    if isinstance(leaf, tuple):
        parts = [_part(one, begin, end) for one in leaf]
        return type(leaf)(*parts) if hasattr(leaf, "_fields") else tuple(parts)
    return None if isinstance(leaf, dict) else leaf[begin:end]


def _one(steps, n):
    with_time = steps._replace(memory=(), version=(), obs=())
    one = type(steps)(*(field if isinstance(field, tuple) else field[:, n] for field in with_time))
    return one._replace(obs=steps.obs["at"][:, n], memory=steps.memory[0][n], version=steps.version[n])


def env_of(steps):
    return int(steps.action[0]) % 10


def by_hand(rows, env, learnt, burn_in):
    """(first row of an episode, rows of the sequence that count, rows learnt from), one env's, written as a loop."""
    expected, t = [], 0
    while t < ROWS:
        if not rows.valid[t, env]:
            t += 1
            continue
        end = t
        while end < ROWS and not (rows.terminated | rows.truncated)[end, env]:
            end += 1
        for first in range(t, end + 1, learnt):
            after = min(first + learnt, end + 1)
            if after < ROWS:  # the row after it was acted in
                expected.append((range(max(t, first - burn_in), after), range(first, after)))
        t = end + 1
    return expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("length", "burn_in"), [(6, 2), (5, 0), (8, 4)])
def test_every_row_of_an_episode_is_learnt_from_once_and_no_sequence_crosses_an_end(seed, length, burn_in):
    rows = made_up(seed)
    found = cut(rows, [7] * 8 + [4], length, burn_in)
    learnt = length - burn_in
    for env in range(ENVS):
        own = [steps for steps, _ in found if env_of(steps) == env]
        expected = by_hand(rows, env, learnt, burn_in)
        assert len(own) == len(expected)
        for steps, (counts, after_burn_in) in zip(own, expected, strict=True):
            at = steps.action // 10
            there = np.isin(at, [t for t in counts if rows.valid[t, env]]) & steps.valid
            assert at[steps.valid].tolist() == [t for t in counts if rows.valid[t, env]]
            assert not (steps.terminated | steps.truncated)[:-1][~there[:-1] & (at[:-1] != counts[-1])].any()
            late = [t for t in at[burn_in:][steps.valid[burn_in:]]]
            assert late == [t for t in after_burn_in if rows.valid[t, env]]
            assert steps.memory[0] == rows.memory[0][counts[0], env, 0]
            assert steps.version == rows.version[counts[0], env]
            np.testing.assert_array_equal(steps.obs[:-1][there] // 10, at[there])
            assert steps.obs[len(counts) + (burn_in - (after_burn_in[0] - counts[0]))] // 10 == counts[-1] + 1
            assert steps.reward[~steps.valid].sum() == 0


def test_unrolls_of_any_length_give_the_same_sequences():
    rows = made_up(1)
    whole = cut(rows, [ROWS])
    for unrolls in ([1] * ROWS, [20] * 3, [3, 50, 7]):
        found = cut(rows, unrolls)
        assert len(found) == len(whole)
        for env in range(ENVS):
            pairs = zip(*([one for one in many if env_of(one[0]) == env] for many in (whole, found)), strict=True)
            for (steps, head), (again, same_head) in pairs:
                np.testing.assert_array_equal(head, same_head)
                for a, b in zip(steps, again, strict=True):
                    np.testing.assert_array_equal(a, b)
    assert len(cut(made_up(2), [ROWS])) != len(whole)


def test_neighbours_overlap_by_burn_in():
    rows = made_up(0)
    rows.terminated[:] = rows.truncated[:] = False
    rows.valid[:] = True
    actions = [steps.action // 10 for steps, _ in cut(rows, [10] * 6, 6, 4) if env_of(steps) == 1]
    assert [int(rows[-1]) for rows in actions[:4]] == [1, 3, 5, 7]
    assert [int(rows[0]) for rows in actions[:5]] == [0, 0, 0, 2, 4]  # the first two with padded rows before


def test_the_value_of_the_last_observation_comes_along():
    rows = made_up(3)
    for steps, head in cut(rows, [6] * 10):
        last = int(np.flatnonzero(steps.valid)[-1]) if steps.valid.any() else None
        if last is not None:
            assert head[last + 1] == steps.obs[last + 1]


def test_priorities_are_maximum_and_mean_of_what_is_learnt_from():
    error = np.array([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], [7.0, 0.0]])
    valid = np.array([[1, 1], [1, 1], [1, 1], [0, 1]], bool)
    np.testing.assert_allclose(priorities(error, valid, 1, 0.9), [0.9 * 3 + 0.1 * 2, 0.9 * 4 + 0.1 * 2])
    np.testing.assert_allclose(priorities(error, valid, 1, 1.0), [3, 4])
    np.testing.assert_allclose(priorities(error, valid, 0, 0.0), [13 / 3, 15 / 4])
    assert priorities(error, np.zeros_like(valid), 1, 0.9).tolist() == [0, 0]
