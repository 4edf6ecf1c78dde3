# SPDX-License-Identifier: Apache-2.0
"""Gorila: guards, target copies that follow the server, memories shared, local or bundled with their learner."""

import numpy as np
import pytest

from architectures.small import parts_of
from architectures.test_fingerprints import crossings, faults
from engines.running import workers_left
from shoal.actors.transitions import start_transitions
from shoal.agents.exploration import followed_by
from shoal.architectures import gorila
from shoal.architectures.gorila.workers import rule_and_schedule
from shoal.engines import make_engine
from shoal.errors import ConfigError
from shoal.learners.host_rules import AdaGrad, corrected, pushable
from shoal.placement.flow import CARTPOLE
from shoal.placement.twins import twin_parts
from shoal.replay.role import Replay, Since
from shoal.trees import read_at

ENGINES = ("inline", "threads", "simulated")
MEMORIES = ("global", "local", "bundled")
SMALL = {
    "num_actors": 2, "envs_per_actor": 4, "unroll_length": 10, "env_steps": 4_000, "replay_start": 200,
    "batch_size": 64, "replay_ratio": 4.0, "optimiser": "sgd", "anneal_learning_rate": False,
    "actors_ahead": 100,
}  # fmt: skip
each_memory = pytest.mark.parametrize("memory", MEMORIES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


class Run:
    """A run on twins, with everything that was noted of gradients."""

    def __init__(self, engine="inline", gradient=None, costs=None, slow=None, **fields):
        settings = {name: value for name, value in (("costs", costs), ("slow", slow)) if value}
        self.engine, self.noted, self.metrics = make_engine(engine, **settings), [], []
        self.engine.on_note = lambda **told: self.noted.append(told["learnt"]) if "learnt" in told else None
        self.config = gorila.Config(**SMALL | fields)
        parts = twin_parts(CARTPOLE, 100)
        if gradient is not None:
            parts = parts._replace(learner=parts.learner._replace(replay_gradient=gradient))
        self.state = self.engine.run(gorila.run, self.config, parts, None, self.visit)

    def visit(self, state, batch, metrics):
        assert batch == []
        self.metrics.append(metrics)
        return state

    def row(self, message):
        return next(row for row in self.engine.rows() if row["message"] == message)


@pytest.mark.evidence("fingerprint", "gorila")
@each_memory
@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_cross_and_rows_only_where_memories_are_workers(engine, memory):
    run = Run(engine, memory=memory)
    assert faults("gorila", run.engine.rows(), memory=memory) == []
    assert ("TRANS actor>replay" in crossings(run.engine.rows())) == (memory != "bundled")
    grad = run.row("GRAD")
    assert grad["bytes"] == 400 * grad["count"]
    assert run.state.env_steps >= 4_000
    if engine != "threads":  # where pushes go on while the body looks
        assert run.state.env_steps < 4_400
        ratio = 64 * run.state.updates / (run.state.env_steps - 200)
        assert ratio == pytest.approx(4.0, rel=0.05)


@pytest.mark.evidence("fingerprint", "gorila")
def test_memories_are_one_or_one_for_each_actor():
    started = {}
    for memory in ("global", "local"):
        costs = {"start": 1.0, "*": 1e-6}
        run = Run("simulated", costs=costs, memory=memory, num_actors=3, num_learners=2, env_steps=800)
        started[memory] = run.engine.phases()["replay"]["start"]
    assert started == {"global": 1.0, "local": 3.0}


def counting(params, target, batch, number):
    """A gradient of ones: with sgd at rate 1, how far params moved is how many were applied."""
    return np.ones(100, np.float32), np.zeros(64), {"loss/total": 1.0}


COUNTED = {"gradient": counting, "learning_rate": 1.0, "max_grad_norm": 1e9}


@pytest.mark.evidence("fingerprint", "gorila")
@pytest.mark.parametrize("kind", ["inline", "simulated"])
def test_gradients_of_a_learner_that_sleeps_are_rejected_and_counted(kind):
    """A sleeper's gradients are too old when they come, and do not move the params."""
    slow = {"learner/1": 50.0}
    run = Run(
        kind, slow=slow, costs={"*": 1e-4, "gradient": 1e-2} if kind == "simulated" else None, max_lag=5, **COUNTED
    )
    rejected = run.metrics[-1]["gradients_rejected"]
    assert rejected > 0
    assert run.row("GRAD")["count"] >= run.state.version + rejected
    assert run.row("GRAD")["lag_max"] > 5
    assert -run.state.params[0] == run.state.version == run.state.updates
    control = Run(kind, max_lag=5, **COUNTED)
    assert control.metrics[-1]["gradients_rejected"] == 0


@pytest.mark.evidence("fingerprint", "gorila")
def test_losses_far_outside_of_the_usual_are_not_pushed():
    calls = []

    def gradient(params, target, batch, number):
        calls.append(1)
        loss = 1e6 if len(calls) % 50 == 0 else 1.0 + 0.1 * (len(calls) % 7)
        return np.ones(100, np.float32), np.zeros(64), {"loss/total": loss}

    run = Run(**COUNTED | {"gradient": gradient}, num_learners=1)
    dropped = max(told["metrics"]["outliers_dropped"] for told in run.noted if "outliers_dropped" in told["metrics"])
    assert dropped == sum(1 for number in range(1, len(calls) + 1) if number % 50 == 0) > 2
    assert -run.state.params[0] == run.state.version
    assert run.state.env_steps >= 4_000  # what came with a dropped batch was received all the same


@pytest.mark.evidence("fingerprint", "gorila")
@pytest.mark.parametrize("num_learners", [1, 3])
def test_targets_are_renewed_by_versions_of_the_server(num_learners):
    seen = []

    def gradient(params, target, batch, number):
        seen.append((-params[0], -target[0], number))
        return counting(params, target, batch, number)

    run = Run(**COUNTED | {"gradient": gradient}, num_learners=num_learners, target_versions=40)
    versions, targets, own = np.array(seen).T
    age = versions - targets
    assert age.max() < 40
    assert age.max() >= 40 - num_learners - 1
    renewals = len(set(targets)) / num_learners
    assert renewals == pytest.approx(run.state.version / 40, abs=2)  # not by the learner's own steps
    assert own.max() == pytest.approx(run.state.version / num_learners, rel=0.1)


@pytest.mark.evidence("fingerprint", "gorila")
@pytest.mark.parametrize(("engine", "order"), [("inline", "free"), ("threads", "fixed")])
def test_one_bundle_is_its_sequential_twin(engine, order):
    fields = {"memory": "bundled", "num_actors": 1, "num_learners": 1, "optimiser": "adagrad", "env_steps": 600}
    config = gorila.Config(**SMALL | fields)
    parts = parts_of("gorila", config)
    state = make_engine(engine, order=order).run(gorila.run, config, parts)

    params, moments = make_engine("inline").run(sequential, config, parts, state.version)
    np.testing.assert_array_equal(state.params, params)
    np.testing.assert_array_equal(state.optimiser, moments)
    assert np.abs(moments).max() > 0


def sequential(config, parts, pushes):
    """One bundle written out as a loop: no wires."""
    rule, schedule = rule_and_schedule(config)
    assert isinstance(rule, AdaGrad)
    params, target = (parts.learner.acting(parts.learner.init(0)) for _ in range(2))
    moments, fresh, taken, steps, refreshed = np.zeros((1, params.size), np.float32), 0, 0, 0, 0
    sampler, replay = start_transitions(0, config, parts), Replay(config, parts, Since(0, None))
    while steps < pushes:
        acting = followed_by(params, config.explores_by(taken))
        replay.add(sampler.unroll(acting, 0, config.unroll_length))
        while replay.may_draw and steps < pushes:
            drawn = replay.draw()
            fresh += drawn.fresh
            if steps - refreshed >= config.target_versions:
                target, refreshed = params.copy(), steps
            grad, _, metrics = parts.learner.replay_gradient(params, target, read_at(drawn.batch, 0), steps)
            grad, _ = pushable(grad, metrics, config.max_grad_norm, steps)
            steps += 1
            rule(params, moments, grad, corrected(rule, schedule(taken), steps))
            taken, fresh = taken + fresh, 0
    return params, moments


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory": "bundled", "num_actors": 3}, "memory='bundled' has actor and learner in one worker"),
        ({"priorities": "proportional"}, "priorities=proportional is not for gorila; it draws evenly"),
        ({"target_interval": 100}, "target_interval=100 is not for gorila; its targets follow the server"),
        ({"realtime": True, "envs_per_actor": 1}, "realtime=True is not for gorila"),
        ({"param_shards": 0}, "param_shards=0 must be above 0"),
        ({"max_lag": -1}, "max_lag=-1 must be 0 or more"),
    ],
)
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError) as refused:
        gorila.Config(**SMALL | fields)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
