# SPDX-License-Identifier: Apache-2.0
"""Architectures and layouts by what they would do, within limits."""

import dataclasses

import pytest

from placement.made_up import profile, trace
from shoal.errors import ConfigError
from shoal.placement.machines import MachineFacts
from shoal.placement.ranking import Bounds, rank

FOUR = MachineFacts(name="four", cores=4)
KNOWN = dataclasses.replace(
    profile(step=(0.0, 5e-3), gain=1.0), traces=(trace("ppo", update=1e-6), trace("impala", update=1e-6))
)


def test_every_architecture_is_ranked_in_several_layouts_fastest_first():
    found = rank(KNOWN, FOUR)
    assert {one.architecture for one in found} == {"ppo", "impala"}
    assert len(found) > 6
    rates = [one.env_steps_per_s for one in found]
    assert rates == sorted(rates, reverse=True)
    assert found[0].engine == "processes"  # the environment computes and holds Python's lock
    assert found[0].roles["actor"].workers >= 4


def test_nothing_outside_the_limits_is_ranked():
    fresh = rank(KNOWN, FOUR, Bounds(max_lag=0.0))
    assert {one.architecture for one in fresh} == {"ppo"}
    once = rank(KNOWN, FOUR, Bounds(max_reuse=1.0))
    assert {one.architecture for one in once} == {"impala"}
    assert rank(KNOWN, FOUR, Bounds(max_lag=0.0, max_reuse=1.0)) == []


def test_environments_that_have_no_name_stay_in_one_process():
    nameless = dataclasses.replace(KNOWN, env=dataclasses.replace(KNOWN.env, named=False))
    assert {one.engine for one in rank(nameless, FOUR)} <= {"inline", "threads"}


@pytest.mark.parametrize(("fields", "said"), [({"max_lag": -1.0}, "--max-lag -1"), ({"max_reuse": 0.0}, "--max-reuse")])
def test_limits_that_make_no_sense(fields, said):
    with pytest.raises(ConfigError, match=said):
        Bounds(**fields)


def test_limits_in_words():
    assert Bounds(max_lag=2.0, max_reuse=4.0).words == "lag up to 2, reuse up to 4"
    assert Bounds().words == ""
