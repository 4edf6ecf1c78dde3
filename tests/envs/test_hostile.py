# SPDX-License-Identifier: Apache-2.0
"""Every hostile environment ends in one line that names it, or harms nothing."""

import re
import warnings

import numpy as np
import pytest

from envs.hostile import AT, EPISODE, HOSTILE, Good, SlowReset
from envs.recording import actions
from shoal import envs, seeds
from shoal.errors import EnvironmentFault
from shoal.trees import tree_leaves, tree_map

SEED, FIRST, STEPS = 3, 4, 9
HERE = [env for env in HOSTILE if not env.dies]


@pytest.fixture(autouse=True)
def as_if_new(monkeypatch):
    """Shorter pauses, and counts of what was made from the start."""
    monkeypatch.setattr(SlowReset, "seconds", 0.01)
    for env in HOSTILE:
        if "made" in vars(env):
            monkeypatch.setattr(env, "made", vars(env)["made"])


def name_of(env) -> str:
    return f"envs.hostile:{env.__name__}"


def play(env_id):
    """Resolve, make, reset and step, as an actor does; rows [STEPS + 1] as they were when they were received."""
    env = envs.resolve(env_id).make(2, FIRST)
    try:
        env.reset(SEED)
        rows = [env.recv()]
        kept = [tree_map(np.copy, rows[0])]
        for step in range(STEPS):
            env.send(actions(env, step, FIRST, rows[-1].obs))
            rows.append(env.recv())
            kept.append(tree_map(np.copy, rows[-1]))
    finally:
        env.close()
    for row, copy in zip(rows, kept, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(tree_leaves(row), tree_leaves(copy), strict=True))
    return rows


def test_there_are_many_and_each_explains_itself():
    assert len(HOSTILE) >= 40
    assert len({env.__name__ for env in HOSTILE}) == len(HOSTILE)
    assert sum(bool(env.fault) for env in HERE) >= 30
    assert {env.dies for env in HOSTILE} > {"hang", "exit 3", "signal 11", "signal 9", "signal 6"}
    for env in HOSTILE:
        assert env.__doc__ and env.__doc__ != Good.__doc__


@pytest.mark.parametrize("env", [env for env in HERE if env.fault], ids=lambda env: env.__name__)
def test_a_fault_is_one_line_that_says_who_when_and_what(env):
    with pytest.raises(env.error) as caught:
        play(name_of(env))
    line = str(caught.value)
    assert re.search(env.fault, line), line
    assert line.startswith(f"{name_of(env)}: ")
    assert "; " in line
    assert "\n" not in line
    assert len(line) < 600
    if env.error is EnvironmentFault and "when it was made" not in line:
        where = re.search(r"environment (\d+) \(seed (\d+), step (\d+)\)", line)
        assert where, line
        index, seed, step = map(int, where.groups())
        assert seed == seeds.derive(SEED, "env", index)
        assert FIRST <= index < FIRST + 2
        assert 0 <= step <= EPISODE + 1


@pytest.mark.parametrize("env", [env for env in HERE if not env.fault], ids=lambda env: env.__name__)
@pytest.mark.filterwarnings("ignore")
def test_harmless_ones_harm_nothing(env, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = play(name_of(env))
    capfd.readouterr()
    assert len(rows) == STEPS + 1
    assert sum(row.valid.sum() for row in rows) >= STEPS
    assert all(np.isfinite(leaf).all() for row in rows for leaf in tree_leaves(row.obs))


def test_a_good_environment_is_good():
    rows = play("envs.hostile:Good")
    assert [bool(row.valid[0]) for row in rows] == [False, *[True] * EPISODE, False, *[True] * EPISODE, False, True]
    assert AT < EPISODE
