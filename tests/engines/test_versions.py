# SPDX-License-Identifier: Apache-2.0
"""Stores and shared vectors on every engine: which version who gets, and what counts as new."""

import time

import numpy as np
import pytest

from engines.running import KINDS, engine_of, row
from shoal.engines import Ended, phase, system
from shoal.errors import ConfigError

on_every_engine = pytest.mark.parametrize("kind", KINDS)


def pause(kind):
    """Let the other threads run."""
    if kind == "threads":
        time.sleep(0.001)


@on_every_engine
def test_a_store_keeps_versions_for_those_behind(kind):
    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", "v5", version=5, keep=3)
            early = params.pull(behind=2)
            for version in (6, 7, 8):
                assert params.publish(f"v{version}") == version
            with pytest.raises(ConfigError, match="keep=4"):
                params.pull(behind=3)
            return early, params.pull(), params.pull(behind=2)

    assert engine_of(kind).run(program) == (("v5", 5), ("v8", 8), ("v6", 6))


@on_every_engine
def test_params_are_counted_when_the_version_is_new_to_the_worker(kind):
    def pull_often(index, params, told):
        for _ in range(5):
            params.pull()
        params.pull(at_least=1)
        params.pull()
        told.put(index)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.zeros(4))
            told = s.channel("TOLD", "actor", "learner", 2)
            s.spawn("actor", 2, pull_often, params, told)
            while row(engine, "PARAM")["count"] < 2:
                phase("look", pause, kind)
            params.publish(np.zeros(4))
            told.get(2)

    engine = engine_of(kind)
    engine.run(program)
    assert (row(engine, "PARAM")["count"], row(engine, "PARAM")["bytes"]) == (4, 128)


@on_every_engine
def test_a_version_that_never_comes_ends_the_wait(kind):
    def owner(index, params):
        params.publish(1)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "owner", 0)
            s.spawn("owner", 1, owner, params)
            assert params.pull(at_least=1) == (1, 1)
            params.pull(at_least=2)

    with pytest.raises(Ended, match="pull PARAM: every owner of /s has ended, version 2 will not come"):
        engine_of(kind).run(program)


@on_every_engine
def test_a_vector_shares_its_moments(kind):
    def rms(params, moments, grad, rate):
        moments[0] = 0.9 * moments[0] + 0.1 * grad**2
        params -= grad / np.sqrt(moments[0] + 1)

    def program():
        with system("s", "worker") as s:
            vector = s.vector("parameter_server", np.ones(5), rms, shards=2, moments=1)
            p, version = vector.pull()
            vector.push(np.arange(5.0), version)
            vector.push(np.ones(5), version)
            return vector.pull()

    params, moments = np.ones(5), np.zeros((1, 5))
    rms(params, moments, np.arange(5.0), 1.0)
    rms(params, moments, np.ones(5), 1.0)
    engine = engine_of(kind)
    flat, version = engine.run(program)
    assert version == 2
    assert np.array_equal(flat, params)
    assert row(engine, "GRAD")["lag_max"] == 1
