# SPDX-License-Identifier: Apache-2.0
"""DQN with several learners: sharing minibatches out, or apart with memories of their own."""

from fnmatch import fnmatch

import numpy as np
import pytest

from architectures.test_fingerprints import crossings
from engines.running import workers_left
from shoal import envs
from shoal.architectures import dqn
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine
from shoal.errors import ConfigError
from shoal.placement.flow import CARTPOLE
from shoal.placement.twins import twin_parts

FORMS = ("async", "async_skip")
SMALL = {
    "num_actors": 2, "envs_per_actor": 2, "unroll_length": 6, "replay_start": 24, "batch_size": 8, "replay_ratio": 2.0,
    "env_steps": 400, "learners": 2, "batches_per_visit": 4, "target_interval": 50, "anneal_learning_rate": False,
}  # fmt: skip
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@pytest.fixture(scope="module")
def parts():
    """Real parts of each form, made once."""
    made = {}

    def of(config):
        key = (config.optimisation, config.num_actors, config.seed, config.priorities)
        if key not in made:
            made[key] = make_parts(dqn, config, envs.resolve("toy:catch"), "auto")
        return made[key]

    return of


def run(parts, engine, form, order="free", **fields):
    """(engine, last state, config, lags that were noted)."""
    config, lags = dqn.Config(**SMALL | {"optimisation": form} | fields), []
    made, engine = parts(config), make_engine(engine, order=order)
    if engine.name == "processes":
        engine.preload = preloads(made.agent, dqn, config)
    engine.on_note = lambda **told: lags.extend(told.get("learnt", {"lag": []})["lag"])
    return engine, engine.run(dqn.run, config, made), config, lags


@pytest.mark.evidence("fingerprint", "dqn")
@pytest.mark.parametrize(
    ("form", "engine"),
    [("async", "inline"), ("async_skip", "inline"), ("async_skip", "threads"), ("async", "processes")],
)
@pytest.mark.parametrize("num_actors", [2, 4])
def test_rows_never_leave_their_learner(parts, form, engine, num_actors):
    steps = 4_000 if engine == "processes" else 400  # of which one may be through a short run before others begin
    engine, state, config, lags = run(parts, engine, form, num_actors=num_actors, env_steps=steps)
    crossed = crossings(engine.rows())
    assert set(dqn.must_cross(config)) <= crossed
    assert not [wire for wire in crossed for pattern in dqn.must_never_cross(config) if fnmatch(wire, pattern)]
    assert ("TRANS actor>learner" in crossed) == (num_actors == 4)
    assert state.env_steps >= steps
    assert state.updates == state.version * config.steps_per_exchange
    assert np.abs(state.optimiser).max(-1).min() > 0
    if (
        engine == "inline"
    ):  # elsewhere exchanges go on while the body looks, and one learner may be through before others
        assert state.env_steps < steps + 200
        assert state.updates * 8 / (state.env_steps - 24) == pytest.approx(2.0, rel=0.25)  # in whole visits
        assert max(lags) >= 1


@pytest.mark.evidence("fingerprint", "dqn")
@each_form
@pytest.mark.parametrize("priorities", ["none", "proportional"])
def test_fixed_order_is_bit_equal_on_every_engine(parts, form, priorities):
    fields = {"priorities": priorities, "env_steps": 200}
    first = run(parts, "inline", form, **fields)[1]
    for engine in ("threads", *(["processes"] if priorities == "none" else [])):
        again = run(parts, engine, form, "fixed", **fields)[1]
        np.testing.assert_array_equal(first.params, again.params)
    other = run(parts, "inline", form, seed=1, **fields)[1]
    assert not np.array_equal(first.params, other.params)


@pytest.mark.evidence("fingerprint", "dqn")
@pytest.mark.parametrize("learners", [1, 2])
def test_synchronous_learners_sum_a_gradient_for_every_step(learners):
    config = dqn.Config(**SMALL | {"learners": learners})
    engine = make_engine("inline")
    state = engine.run(dqn.run, config, twin_parts(CARTPOLE, 100, devices=learners))
    summed = [row["count"] for row in engine.rows() if row["message"] == "GRAD"]
    assert summed == ([2 * state.updates] if learners == 2 else [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 9}, "learners=2 cannot share the batch_size=9 rows of a minibatch evenly"),
        ({"learner_processes": 2}, "learner_processes=2 is for learners from trajectories"),
        ({"drop_slowest": 1}, "drop_slowest=1 is for learners from trajectories"),
        ({"gradient_noise": True}, "gradient_noise=True is for learners from trajectories"),
        ({"optimisation": "async", "num_actors": 3}, "learners=2 cannot have the num_actors=3 actors evenly"),
        ({"optimisation": "async", "realtime": True, "envs_per_actor": 1}, "realtime has one learner"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError) as refused:
        dqn.Config(**SMALL | fields)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
