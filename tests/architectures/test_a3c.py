# SPDX-License-Identifier: Apache-2.0
"""What tells A3C from its neighbours: staleness, moments, twins, stragglers, exploration of each actor."""

import numpy as np
import pytest

from architectures.small import Run, config_of, parts_of, run_small
from engines.running import workers_left
from shoal import envs
from shoal.actors.samplers import start
from shoal.agents.exploration import FINAL_EPSILONS, SHARES, entropy_cost_of, epsilon_at, final_epsilon
from shoal.architectures import a3c
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine, me
from shoal.errors import ConfigError
from shoal.learners.host_rules import corrected, pushable

VALUES = ("one_step_q", "n_step_q", "one_step_sarsa")
AGENTS = ("actor_critic", *VALUES)


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert workers_left() == []


@pytest.mark.evidence("fingerprint", "a3c")
@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
def test_one_actor_is_never_stale_and_two_are(engine):
    alone = np.concatenate(run_small("a3c", engine, updates=20, num_actors=1).lags)
    assert len(alone) >= 20
    assert alone.max() == 0
    run = until_stale(engine)
    lags = np.concatenate(run.lags)
    assert lags.max() >= 1
    row = next(row for row in run.engine.rows() if row["message"] == "GRAD")
    assert row["lag_max"] >= lags.max()  # workers go on while the run ends
    if engine == "inline":
        assert (row["lag_mean"], row["lag_max"]) == (pytest.approx(lags.mean(), abs=0.2), lags.max())


def until_stale(engine):
    """A run that ends once a gradient was late, whoever of the actors begins when."""
    config = config_of("a3c", 10**7)
    parts, run = parts_of("a3c", config), Run(make_engine(engine))
    run.engine.on_note = run.note
    if engine == "processes":
        run.engine.preload = preloads(parts.agent, a3c, config)

    def visit(state, batch, metrics):
        run.visit(state, batch, metrics)
        if len(run.states) >= 200 and any(lags.max() for lags in list(run.lags)):
            run.engine.stop("seen")
        return state

    run.engine.run(a3c.run, config, parts, None, visit)
    return run


@pytest.mark.evidence("fingerprint", "a3c")
@pytest.mark.parametrize("optimiser", ["rmsprop", "adam", "momentum", "sgd"])
@pytest.mark.parametrize("shared", [True, False])
def test_moments_are_shared_or_each_actor_s_own(shared, optimiser):
    run = run_small("a3c", "inline", updates=30, shared_moments=shared, optimiser=optimiser)
    moments = run.states[-1].optimiser
    rows = {"rmsprop": 1, "adam": 2, "momentum": 1, "sgd": 0}[optimiser]
    assert moments.shape == ((rows,) if shared else (2, rows)) + run.params.shape
    if rows and not shared:
        assert np.abs(moments).max(-1).min() > 0
        assert not np.array_equal(moments[0], moments[1])


def sequential(config, parts, pushes: int) -> np.ndarray:
    """One worker written out as a loop: no engine, no wires."""
    rule, schedule = a3c.rule_and_schedule(config)
    explorer, rollout = a3c.Explorer(config, 0), start(0, config, parts)
    params = parts.learner.acting(parts.learner.init(config.seed))
    moments, env_steps = np.zeros((rule.moments, params.size), np.float32), 0
    for push in range(pushes):
        pulled = params.copy()
        trajectory = rollout.unroll(explorer.acting(pulled, env_steps), push, config.unroll_length)
        grad, _ = parts.learner.gradient(explorer.learning(pulled, env_steps), [trajectory])
        grad, _ = pushable(grad[: params.size], {}, config.max_grad_norm, push)
        rule(params, moments, grad, corrected(rule, schedule(env_steps), push + 1))
        env_steps += int(trajectory.valid.sum())
    return params


@pytest.mark.evidence("fingerprint", "a3c")
@pytest.mark.parametrize(("engine", "order"), [("inline", "free"), ("threads", "fixed"), ("processes", "fixed")])
@pytest.mark.parametrize("agent", AGENTS)
def test_one_actor_is_its_sequential_twin(agent, engine, order):
    """In free order the body looks at params while they change."""
    fields = {
        "num_actors": 1, "agent": agent, "anneal_learning_rate": True, "target_interval": 50, "epsilon_steps": 100,
    }  # fmt: skip
    config = config_of("a3c", 20, **fields)
    parts = parts_of("a3c", config)
    run = run_small("a3c", engine, order, updates=20, parts=parts, **fields)
    last = run.states[-1]
    np.testing.assert_array_equal(last.params, sequential(config, parts, last.version))
    assert not np.array_equal(last.params, sequential(config, parts, last.version - 1))


def test_targets_are_held_until_all_actors_have_gone_on_far_enough():
    explorer = a3c.Explorer(a3c.Config(agent="one_step_q", target_interval=100), 0)
    held = [explorer.learning(np.full(2, steps, np.float32), steps)[3] for steps in (0, 40, 99, 130, 180, 420)]
    assert held == [0, 0, 0, 130, 130, 420]


@pytest.mark.evidence("fingerprint", "a3c")
@pytest.mark.parametrize("factor", [5.0, 1.0])
def test_a_slow_actor_slows_nobody_else(factor, monkeypatch):
    """In virtual time: the others' rate of updates stays as it is; the slow one has its share."""
    counts = [0, 0, 0]

    def count(*_):
        counts[me().index] += 1

    monkeypatch.setattr(a3c, "note_learnt", count)
    costs = {"env_step": 1e-3, "gradient": 1e-3, "*": 1e-5}
    engine = make_engine("simulated", costs=costs, slow={"actor/0": factor})
    config = config_of("a3c", 60, num_actors=3)
    engine.run(a3c.run, config, parts_of("a3c", config))
    slow, *others = (count / engine.now() for count in counts)
    alone = 1 / (6 * 1e-3 + 1e-3 + 10 * 1e-5)  # six steps, a gradient, and what is small
    assert np.allclose(others, alone, rtol=0.15)
    assert slow == pytest.approx(alone / factor, rel=0.25)


@pytest.mark.evidence("fingerprint", "a3c")
def test_each_actor_explores_in_its_own_way():
    config = a3c.Config(num_actors=2000)
    costs = [a3c.Explorer(config, index).acting(np.zeros(1, np.float32), 0)[1] for index in range(200)]
    assert len(set(costs)) == 200
    assert 0.005 <= min(costs) < 0.006 < 0.018 < max(costs) <= 0.02
    finals = np.array([final_epsilon(0, index) for index in range(config.num_actors)])
    for value, share in zip(FINAL_EPSILONS, SHARES, strict=True):
        assert np.mean(finals == value) == pytest.approx(share, abs=0.04)
    assert [final_epsilon(1, index) for index in range(20)] != finals[:20].tolist()
    assert entropy_cost_of(0.01, 1.0, 0, 3) == 0.01
    assert [epsilon_at(0.1, steps, 100) for steps in (0, 50, 100, 900)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_each_actor_has_noise_of_its_own():
    config = config_of("a3c", 1)
    parts = parts_of("a3c", config)
    params = a3c.Explorer(config, 0).acting(parts.agent.init(0), 0)
    one, two = (start(index, config, parts).unroll(params, 0, 40).action for index in (0, 1))
    assert not np.array_equal(one, two)
    again = start(0, config, parts).unroll(params, 0, 40).action
    np.testing.assert_array_equal(one, again)


def test_a_gradient_that_is_not_finite_is_not_pushed():
    config = config_of("a3c", 20, num_actors=1)
    parts = parts_of("a3c", config)
    learner = parts.learner._replace(gradient=lambda params, _: (np.full(params.shape, np.nan, np.float32), {}))
    states = []
    engine = make_engine("inline")
    with pytest.raises(Exception, match="a worker's gradient is not finite; nothing of it was pushed") as failed:
        engine.run(a3c.run, config, parts._replace(learner=learner), None, lambda *a: states.append(a))
    assert failed.value.exit_code == 5
    assert states == []


@pytest.mark.parametrize("agent", VALUES)
@pytest.mark.parametrize(
    ("env", "network", "message"),
    [
        ("toy:catch", "lstm", "carries no memory; use a network without, or agent actor_critic"),
        ("Pendulum-v1", "auto", "values whole-number actions one by one, Pendulum-v1 takes Box actions"),
        ("toy:dials", "auto", "takes MultiDiscrete actions; use agent actor_critic"),
    ],
)
def test_what_values_of_actions_cannot_do_is_one_line(agent, env, network, message):
    with pytest.raises(ConfigError, match=message) as refused:
        make_parts(a3c, a3c.Config(agent=agent), envs.resolve(env), network)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_learns_to_catch(agent):
    fields = {
        "agent": agent, "num_actors": 2, "envs_per_actor": 4, "unroll_length": 8, "pushes_per_visit": 20,
        "epsilon_steps": 15_000, "target_interval": 500, "discount": 0.95,
    }  # fmt: skip
    rule = {"optimiser": "adam"} if agent == "actor_critic" else {"learning_rate": 3e-3}
    config = a3c.Config(env_steps=60_000, **fields, **rule)
    parts = make_parts(a3c, config, envs.resolve("toy:catch"), "auto")
    returns = []
    engine = make_engine("threads")
    engine.on_note = lambda **m: returns.extend(r for r, _ in m.get("learnt", {"episodes": []})["episodes"])
    engine.run(a3c.run, config, parts)
    assert np.mean(returns[:100]) < -0.2
    late = np.mean(returns[-1000:])  # seen: 0.38 to 0.46 in eight runs of n_step_q, whose last epsilon is large
    assert late > 0.3, late
