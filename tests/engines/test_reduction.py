# SPDX-License-Identifier: Apache-2.0
"""Sums that compiled code makes are declared and counted like any wire, by the role that they belong to."""

import numpy as np
import pytest

from engines.running import ALL, engine_of, row
from engines.sums import sum_within
from shoal.engines import system
from shoal.errors import ShoalError

LIKE = np.zeros(5, np.float32)


@pytest.mark.parametrize("kind", ALL)
def test_new_sums_count_a_message_for_each_member(kind):
    engine = engine_of(kind)

    def program():
        with system("sums", "learner") as s:
            sums = s.reduction("GRAD", "learner", 3, LIKE, via="network", made=4)
            sums.reached(6)
            sums.reached(6)
            sums.reached(7)

    engine.run(program)
    found = row(engine, "GRAD")
    assert (found["source"], found["target"], found["via"]) == ("learner", "learner", "network")
    assert (found["count"], found["bytes"], found["lag_max"]) == (9, 9 * LIKE.nbytes, None)


def test_of_one_member_nothing_crosses():
    engine = engine_of("inline")

    def program():
        with system("sums", "learner") as s:
            s.reduction("GRAD", "learner", 1, LIKE).reached(5)

    engine.run(program)
    assert engine.rows() == []


def test_others_cannot_count_for_the_role():
    def program():
        with system("sums", "learner") as s:
            s.reduction("GRAD", "actor", 2, LIKE).reached(1)

    with pytest.raises(ShoalError, match="cannot sum GRAD: this side belongs to role 'actor'"):
        engine_of("inline").run(program)


@pytest.mark.parametrize("kind", ALL)
def test_a_worker_may_open_a_system_whose_sums_are_counted(kind):
    engine = engine_of(kind)

    def program():
        with system("outer", "population") as s:
            over = s.channel("FITNESS", "member", "population", 1)
            s.spawn("member", 1, sum_within, over)
            over.get()

    engine.run(program)
    assert row(engine, "GRAD")["count"] == 2 * 3
