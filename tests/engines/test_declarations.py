# SPDX-License-Identifier: Apache-2.0
"""What declarations refuse, what the ledger knows before a run, and how payload is measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.running import engine_of
from shoal.engines import nbytes, select, system
from shoal.errors import ConfigError, ShoalError


def work(*args):
    """What a phase does here."""
    return args


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s: s.channel("A", "x", "y", 0), "capacity 0"),
        (lambda s: s.channel("A", "x", "y", 1, when_full="drop"), "when_full='drop'"),
        (lambda s: s.channel("A", "x", "y", 1, max_lag=3), "no versions"),
        (lambda s: s.store("P", "x", 0, keep=0), "keeps 0"),
        (lambda s: s.service("O", "A", "x", "y", 0, 1.0), "batch 0"),
        (lambda s: s.vector("x", np.zeros((2, 2)), work), "flat params"),
        (lambda s: s.spawn("x", 1, work, on_failure="ignore"), "on_failure='ignore'"),
        (lambda s: select(), "at least one"),
    ],
)
def test_declarations_that_cannot_work_say_so_in_one_line(use, message):
    def program():
        with system("s", "body") as s:
            use(s)

    with pytest.raises(ConfigError, match=message) as caught:
        engine_of("inline").run(program)
    assert "\n" not in str(caught.value)


def test_a_side_belongs_to_its_role():
    def program():
        with system("s", "learner") as s:
            s.channel("TRAJ", "actor", "learner", 1).put(0)

    with pytest.raises(ShoalError, match="/s learner/0 cannot put TRAJ: this side belongs to role 'actor'"):
        engine_of("inline").run(program)


def test_declared_wires_are_in_the_ledger_before_anything_crossed():
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", 0)
            s.channel("TRAJ", "actor", "learner", 1, versions=params)
            s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
            s.vector("parameter_server", np.zeros(2), work, source="actor")

    engine = engine_of("inline")
    engine.run(program)
    assert [(r["message"], r["source"], r["target"], r["count"]) for r in engine.rows()] == [
        ("PARAM", "learner", "*", 0),
        ("TRAJ", "actor", "learner", 0),
        ("OBS", "actor", "inference", 0),
        ("ACT", "inference", "actor", 0),
        ("PARAM", "parameter_server", "actor", 0),
        ("GRAD", "actor", "parameter_server", 0),
    ]


leaves = st.one_of(st.integers(0, 5).map(lambda n: np.zeros((n, 3), np.float32)), st.floats(), st.integers(), st.none())


trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=3) | st.tuples(t, t) | st.dictionaries(st.text(max_size=2), t, max_size=3)
)


@given(trees)
def test_payload_is_the_sum_over_leaves(tree):
    def flatten(x):
        if isinstance(x, dict):
            return [leaf for v in x.values() for leaf in flatten(v)]
        if isinstance(x, (list, tuple)):
            return [leaf for v in x for leaf in flatten(v)]
        return [x]

    sizes = [x.nbytes if isinstance(x, np.ndarray) else 0 if x is None else 8 for x in flatten(tree)]
    assert nbytes(tree) == sum(sizes)


def test_payload_of_a_broadcast_twin_is_what_it_stands_for():
    assert nbytes((np.broadcast_to(np.float32(0), (4, 5)), b"abc", True)) == 80 + 3 + 1
