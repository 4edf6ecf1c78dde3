# SPDX-License-Identifier: Apache-2.0
"""A2C and PPO with learners apart: what crosses, what is shared, twins, and learners that are killed."""

import os
import signal
import time

import numpy as np
import pytest

from architectures.small import Run, config_of, parts_of, run_small
from architectures.test_fingerprints import crossings, faults
from engines.running import workers_left
from shoal.actors.samplers import start
from shoal.architectures import registry
from shoal.engines import IN_PROCESSES, make_engine
from shoal.errors import ConfigError
from shoal.placement.twins import twin_parts

FORMS = ("async", "async_skip")
ARCHITECTURES = ("a2c", "ppo")
each_form = pytest.mark.parametrize("form", FORMS)
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


def fields_of(architecture, form, **more):
    """Two learners with two actors each, unless said otherwise."""
    small = {"minibatches": 2, "epochs": 2} if architecture == "ppo" else {}
    apart = {"optimisation": form, "learners": 2, "num_actors": 4, "batches_per_visit": 1}
    return {**small, **apart, **more}


def run_apart(architecture, form, engine, order="free", updates=12, parts=None, **more):
    return run_small(architecture, engine, order, updates=updates, parts=parts, **fields_of(architecture, form, **more))


@pytest.mark.evidence("fingerprint")
@pytest.mark.evidence("fingerprint", "a2c/optimisation=async")
@pytest.mark.evidence("fingerprint", "ppo/optimisation=async")
@pytest.mark.parametrize(
    ("architecture", "form", "engine"),
    [
        ("a2c", "async", "inline"), ("a2c", "async_skip", "simulated"), ("a2c", "async", "threads"),
        *((architecture, form, "processes") for architecture in ARCHITECTURES for form in FORMS),
        ("a2c", "async", "ray"), ("a2c", "async_skip", "ray"),
    ],
)  # fmt: skip
def test_trajectories_never_leave_their_learner(architecture, form, engine):
    run = run_apart(architecture, form, engine, workers=6 if engine in IN_PROCESSES else 0)
    rows = run.engine.rows()
    assert faults(architecture, rows, **fields_of(architecture, form)) == []
    systems = {(row["message"], row["source"], row["target"]): row["system"] for row in rows if row["count"]}
    assert systems == {
        ("GRAD", "learner", "parameter_server"): f"/{architecture}",
        ("PARAM", "parameter_server", "learner"): f"/{architecture}",
        ("TRAJ", "actor", "learner"): f"/{architecture}/samplers",
        ("PARAM", "learner", "actor"): f"/{architecture}/samplers",
    }
    assert next(row for row in rows if row["message"] == "TRAJ")["lag_max"] == 0
    roles = sorted(place["role"] for place in run.engine.pids)
    assert roles == (["actor"] * 4 + ["learner"] * 2 if engine in IN_PROCESSES else [])
    assert len({place["pid"] for place in run.engine.pids} | {os.getpid()}) == len(roles) + 1


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize(("architecture", "form"), [("a2c", "async"), ("ppo", "async_skip")])
def test_with_one_actor_a_learner_no_trajectory_crosses_at_all(architecture, form):
    run = run_apart(architecture, form, "processes", num_actors=2)
    assert crossings(run.engine.rows()) == {"GRAD learner>parameter_server", "PARAM parameter_server>learner"}


@pytest.mark.evidence("fingerprint")
@each_form
@each_architecture
def test_exchanges_are_counted_and_moments_are_shared(architecture, form):
    config = config_of(architecture, 24, **fields_of(architecture, form))
    for engine in ("inline", "threads"):
        run = run_apart(architecture, form, engine, updates=24)
        last = run.states[-1]
        grad = next(row for row in run.engine.rows() if row["message"] == "GRAD")
        assert last.updates == last.version * config.steps_per_exchange
        assert grad["count"] >= last.version
        assert grad["bytes"] == grad["count"] * last.params.nbytes * (3 if form == "async_skip" else 1)
        assert last.optimiser.shape == (2, last.params.size)
        assert np.abs(last.optimiser).max(-1).min() > 0
        if engine == "inline":  # elsewhere learners go on while the run ends, and one may be through before the other
            assert grad["count"] - last.version <= 4
            assert np.concatenate(run.lags).max() >= 1


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize(
    ("architecture", "form", "num_actors"),
    [
        ("a2c", "async", 4),
        ("ppo", "async_skip", 4),
        pytest.param("a2c", "async_skip", 2, marks=pytest.mark.slow),
        pytest.param("ppo", "async", 2, marks=pytest.mark.slow),
    ],
)
def test_fixed_order_is_bit_equal_on_every_engine(architecture, form, num_actors):
    config = config_of(architecture, 12, **fields_of(architecture, form, num_actors=num_actors))
    parts = parts_of(architecture, config)
    runs = [
        run_apart(architecture, form, engine, order, parts=parts, num_actors=num_actors)
        for engine, order in (("inline", "free"), ("threads", "fixed"), ("processes", "fixed"))
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].params, other.params)
        np.testing.assert_array_equal(runs[0].states[-1].optimiser, other.states[-1].optimiser)
    again = run_apart(architecture, form, "inline", num_actors=num_actors, seed=1)
    assert not np.array_equal(again.params, runs[0].params)


def alone(config, parts, batches: int):
    """One learner written out as a loop: collect, update."""
    sampler, state = start(0, config, parts), parts.learner.init(config.seed)
    for _ in range(batches):
        trajectory = sampler.unroll(parts.learner.acting(state), 0, config.unroll_length)
        state, _ = parts.learner.update(state, [trajectory])
    return state


@each_architecture
def test_one_learner_that_exchanges_is_the_sequential_algorithm(architecture):
    fields = {"learners": 1, "num_actors": 1}
    config = config_of(architecture, 6, **fields_of(architecture, "async", **fields))
    parts = parts_of(architecture, config)
    run = run_apart(architecture, "async", "inline", updates=6, parts=parts, **fields)
    assert np.concatenate(run.lags).max() == 0
    whole = [state for state in run.states if state.updates % config.steps_per_batch == 0]  # batches learnt to the end
    assert len(whole) >= 4
    expected = alone(config, parts, whole[-1].updates // config.steps_per_batch)
    np.testing.assert_array_equal(whole[-1].params, expected.params)
    np.testing.assert_array_equal(whole[-1].optimiser, expected.optimiser)


@pytest.mark.parametrize(("architecture", "optimiser"), [("a2c", "adam"), ("a2c", "rmsprop"), ("ppo", "adam")])
def test_one_learner_that_merges_is_the_sequential_algorithm_up_to_rounding(architecture, optimiser):
    fields = {"learners": 1, "num_actors": 1, "optimiser": optimiser, "skip_batches": 2, "batches_per_visit": 2}
    config = config_of(architecture, 6, **fields_of(architecture, "async_skip", **fields))
    parts = parts_of(architecture, config)
    run = run_apart(architecture, "async_skip", "inline", updates=6, parts=parts, **fields)
    expected = alone(config, parts, run.states[-1].updates // config.steps_per_batch)
    np.testing.assert_allclose(run.params, expected.params, atol=2e-5)
    np.testing.assert_allclose(run.states[-1].optimiser, expected.optimiser, rtol=1e-3, atol=1e-6)


@each_form
@each_architecture
def test_a_run_goes_on_from_the_state_that_is_given(architecture, form):
    config = config_of(architecture, 12, **fields_of(architecture, form))
    parts = parts_of(architecture, config)
    state = parts.learner.init(0)._replace(updates=700, env_steps=config.env_steps // 2, version=50)
    run = Run(make_engine("inline"))
    last = run.engine.run(registry.load(architecture).run, config, parts, state, run.visit)
    assert run.states[0].version > 50
    assert {s.updates - 700 == (s.version - 50) * config.steps_per_exchange for s in run.states} == {True}
    assert last.env_steps >= config.env_steps > run.states[0].env_steps > config.env_steps // 2


@each_form
def test_a_killed_learner_stops_nobody_and_comes_back(form):
    fields = fields_of("a2c", form, num_actors=2)
    config = config_of("a2c", 200, **fields)
    parts = parts_of("a2c", config)
    run = Run(make_engine("processes"))
    killed = []

    def visit(state, batch, metrics):
        run.visit(state, batch, metrics)
        if not killed:
            killed.append(next(place["pid"] for place in run.engine.pids if place["index"] == 0))
            os.kill(killed[0], signal.SIGKILL)
            while not run.engine.losses():  # the other learner could end the run before
                time.sleep(0.01)
        return state

    last = run.engine.run(registry.load("a2c").run, config, parts, None, visit)
    assert last.env_steps >= config.env_steps
    assert np.isfinite(last.params).all()
    assert [line for line in run.engine.losses() if "learner/0" in line and "restarted" in line]


@each_form
@each_architecture
def test_twins_move_what_the_real_parts_move(architecture, form):
    fields = fields_of(architecture, form, optimiser="adam")
    config = config_of(architecture, 12, **fields)
    real_parts = parts_of(architecture, config)
    real = run_apart(architecture, form, "inline", parts=real_parts)
    twins = twin_parts(real_parts.spec, real_parts.agent.init(0).size, config.steps_per_batch)
    twin = run_apart(architecture, form, "simulated", parts=twins)
    assert crossings(real.engine.rows()) == crossings(twin.engine.rows())
    for a, b in zip(real.engine.rows(), twin.engine.rows(), strict=True):
        assert a["bytes"] / a["count"] == b["bytes"] / b["count"], a["message"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_actors": 3}, "learners=2 cannot have the num_actors=3 actors evenly; make --num-actors a multiple of 2"),
        ({"normalise_obs": True}, "normalise_obs needs a learner that sees all batches"),
        ({"normalise_reward": True}, "normalise_reward needs a learner that sees all batches"),
        ({"layer_norms": True}, "layer_norms needs a learner"),
        ({"learner_processes": 2}, "learner_processes=2 is for optimisation=sync"),
        ({"learner_devices": 2}, "learner_devices=2 is for optimisation=sync"),
        ({"drop_slowest": 1}, "drop_slowest=1 is for optimisation=sync"),
        ({"sampler": "async"}, "sampler='async' collects while its learner learns"),
        ({"chunks": 0}, "chunks=0 must be above 0"),
        ({"skip_batches": 0}, "skip_batches=0 must be above 0"),
        ({"batches_per_visit": 0}, "batches_per_visit=0 must be above 0"),
    ],
)
@each_architecture
def test_settings_that_learners_apart_cannot_have_are_one_line(architecture, fields, message):
    with pytest.raises(ConfigError, match=message) as refused:
        registry.load(architecture).Config(**fields_of(architecture, "async", **fields))
    assert "\n" not in str(refused.value)


def test_more_chunks_than_numbers_are_one_line():
    with pytest.raises(ConfigError, match="in 100000000 shards: flat params, 1 to N shards"):
        run_apart("a2c", "async", "inline", chunks=100_000_000)
