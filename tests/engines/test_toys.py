# SPDX-License-Identifier: Apache-2.0
"""Each toy architecture, written once, on every engine: what crosses, how old it is, in which order."""

import importlib

import numpy as np
import pytest

from engines.running import ALL, FIXED, FREE, crossed, engine_of, row, workers_left
from engines.toys import a2c, apex, gorila, impala, pbt
from engines.toys.parts import Config, Parts
from shoal.engines import phase, system

TOYS = ["a2c", "a3c", "impala", "apex", "seed", "es", "pbt", "gorila", "alphazero"]
MANY = Config(actors=3, updates=20)


def toy_of(name):
    return importlib.import_module(f"engines.toys.{name}")


def outcome(kind, name, seed=0, jitter_s=0.0, config=MANY):
    return np.array(engine_of(kind).run(toy_of(name).run, config, Parts(seed, jitter_s)))


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", TOYS)
def test_fingerprint(name, kind):
    engine, toy = engine_of(kind), toy_of(name)
    engine.run(toy.run, MANY, Parts())
    seen = crossed(engine)
    assert seen >= toy.MUST_CROSS
    for never in toy.MUST_NEVER_CROSS:
        message, _, target = never.partition(" ")
        assert not [s for s in seen if s.split()[0] == message and s.endswith(target)], seen
    via = {"threads": "thread", "processes": "process", "cluster": "network"}.get(kind.partition("-")[0], "call")
    assert {r["via"] for r in engine.rows() if r["count"]} == {via}


@pytest.mark.parametrize("name", TOYS)
def test_fixed_order_is_bit_equal_whatever_phases_take(name):
    config = Config(actors=3, updates=10)
    reference = outcome("inline", name, config=config)
    assert np.array_equal(reference, outcome("simulated", name, config=config))
    for _ in range(2):
        assert np.array_equal(reference, outcome("threads-fixed", name, jitter_s=0.002, config=config))
    assert np.array_equal(reference, outcome("processes-fixed", name, jitter_s=0.002, config=config))
    assert not np.array_equal(reference, outcome("inline", name, seed=1, config=config))


@pytest.mark.parametrize("kind", ALL)
def test_a2c_never_lags_and_equals_itself_on_every_engine(kind):
    engine = engine_of(kind)
    params = engine.run(a2c.run, MANY, Parts(jitter_s=0.001 if kind in FREE else 0))
    traj = row(engine, "TRAJ")
    assert (traj["count"], traj["lag_mean"], traj["lag_max"]) == (60, 0.0, 0)
    assert np.array_equal(params, outcome("inline", "a2c"))  # lock-step and by_sender leave no room for order


@pytest.mark.parametrize("kind", ALL)
def test_impala_lags_within_its_bound(kind):
    engine = engine_of(kind)
    config = Config(actors=3, updates=40)
    engine.run(impala.run, config, Parts(jitter_s=0.001 if kind in FREE else 0))
    lag = row(engine, "TRAJ")
    assert 0 < lag["lag_mean"] <= lag["lag_max"]
    if kind not in FREE:  # in free order nothing but a discard can bound it
        assert lag["lag_max"] <= config.slots + config.actors


@pytest.mark.parametrize("kind", ALL)
def test_one_actor_in_lock_step_is_the_sequential_algorithm(kind):
    config, parts = Config(actors=1, updates=20, batch=1, slots=1), Parts()
    p = parts.init()
    for update in range(config.updates):
        p = parts.update(p, [parts.unroll(p, 0, update)])
    assert np.array_equal(p, engine_of(kind).run(a2c.run, config, parts))


def learn_at_lag_0(config, parts):
    """IMPALA whose learner gives params before it takes the next trajectory: one actor, no queue ahead of it."""
    p = parts.init()
    with system("impala", "learner") as s:
        params = s.store("PARAM", "learner", p)
        asked = s.channel("ASK", "learner", "actor", 1)
        trajectories = s.channel("TRAJ", "actor", "learner", 1, versions=params)
        s.spawn("actor", 1, act_when_asked, parts, params, asked, trajectories)
        for _ in range(config.updates):
            asked.put(None)
            p = phase("update", parts.update, p, trajectories.get())
            params.publish(p)
    return p


def act_when_asked(index, parts, params, asked, trajectories):
    count = 0
    while True:
        asked.get()
        p, version = params.pull()
        trajectories.put(phase("unroll", parts.unroll, p, index, count), version)
        count += 1


@pytest.mark.parametrize("kind", ALL)
def test_impala_with_one_actor_at_lag_0_is_the_sequential_algorithm(kind):
    config, parts = Config(updates=20), Parts()
    p = parts.init()
    for update in range(config.updates):
        p = parts.update(p, [parts.unroll(p, 0, update)])
    engine = engine_of(kind)
    assert np.array_equal(p, engine.run(learn_at_lag_0, config, parts))
    assert row(engine, "TRAJ")["lag_max"] == 0


@pytest.mark.parametrize("kind", ALL)
def test_replay_keeps_its_ratio_on_every_engine(kind):
    engine = engine_of(kind)
    config = Config(actors=3, updates=60)
    engine.run(apex.run, config, Parts())
    drawn = config.batch * row(engine, "BATCH")["count"]
    assert drawn / row(engine, "TRANS")["count"] == pytest.approx(apex.RATIO, rel=0.15)


@pytest.mark.parametrize("kind", ALL)
def test_nested_systems_are_told_apart_by_path(kind):
    engine = engine_of(kind)
    engine.run(pbt.run, MANY, Parts())
    paths = {r["message"]: r["system"] for r in engine.rows()}
    assert paths == {
        "FITNESS": "/pbt", "CHOICE": "/pbt", "WEIGHTS": "/pbt", "PARAM": "/pbt/a2c", "TRAJ": "/pbt/a2c"
    }  # fmt: skip
    assert {"member", "learner", "actor"} <= set(engine.phases())  # a member is the learner of its own A2C


@pytest.mark.parametrize("kind", FIXED)
def test_old_gradients_are_rejected_and_counted(kind):
    engine = engine_of(kind, slow={"learner/1": 30.0})
    engine.run(gorila.run, Config(actors=2, updates=60), Parts())
    grad = row(engine, "GRAD")
    assert grad["lag_max"] > 4
    assert grad["count"] > 60  # those that moved the params, and those that did not
