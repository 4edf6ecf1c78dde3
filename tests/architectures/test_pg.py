# SPDX-License-Identifier: Apache-2.0
"""The six steps of the policy gradient: what moves where, who waits, and that it is the same algorithm as long as it
should be."""

import os
import shutil
import signal
import time

import numpy as np
import pytest

from architectures.small import Run, engine_named
from architectures.test_fingerprints import CENTRES, ENGINES, FREE, crossings, faults
from shoal import envs
from shoal.agents.lessons import PolicyLesson, rewards_to_go
from shoal.architectures import pg
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import IN_PROCESSES, make_engine, system
from shoal.placement.twins import twin_parts
from shoal.training import resume
from training.runs import checkpoints, train, untimed_rows

STEPS = "abcdef"
CLOSE = {"rtol": 1e-5, "atol": 1e-7}
APART = "gymnasium.envs.classic_control:CartPoleEnv"
"""the same data however environments are split, which CartPole-v1's vector form does not give"""


def config_of(step, **fields):
    small = {"num_actors": 2, "envs_per_actor": 2, "unroll_length": 8, "env_steps": 10**9, "pushes_per_visit": 2}
    return pg.Config(**{"step": step, "anneal_learning_rate": False, **small} | fields)


def parts_of(config, env="CartPole-v1", network="auto"):
    return make_parts(pg, config, envs.resolve(env), network)


class Iterations(Run):
    """Ends a run after some visits, and keeps batches and metrics."""

    def __init__(self, engine, visits):
        super().__init__(engine)
        self.visits, self.batches, self.metrics = visits, [], []
        engine.on_note = self.note

    def visit(self, state, batch, metrics):
        self.batches.append(batch)
        self.metrics.append(metrics)
        state = super().visit(state, batch, metrics)
        if len(self.states) == self.visits:
            self.engine.stop("enough")
        return state


def ran(step, engine="inline", visits=3, parts=None, env="CartPole-v1", timing=None, workers=0, **fields):  # noqa: PLR0913
    """A run of some visits; `timing` goes to the engine, `workers` are processes that the first visit waits for."""
    config = config_of(step, **fields)
    parts = parts_of(config, env) if parts is None else parts
    run = Iterations(engine_named(engine, **(timing or {})), visits)
    run.workers = workers
    if engine in IN_PROCESSES:
        run.engine.preload = preloads(parts.agent, pg, config)
    run.engine.run(pg.run, config, parts, None, run.visit)
    return run


def phases(run):
    return {role: set(of_role) for role, of_role in run.engine.phases().items()}


@pytest.mark.evidence("fingerprint", "pg")
def test_a_to_c_make_the_same_params_with_other_ledgers_and_phases():
    runs = {step: ran(step) for step in "abc"}
    rows = [trajectory.valid.sum() for trajectory in runs["a"].batches[0]]
    assert rows[0] != rows[1]  # a mean of means would be another gradient
    assert np.abs(runs["a"].params - runs["a"].states[0].params).max() > 1e-3
    for step in "bc":
        np.testing.assert_allclose(runs[step].params, runs["a"].params, **CLOSE)
        assert runs[step].states[-1][2:] == runs["a"].states[-1][2:]
    other = ran("a", parts=parts_of(config_of("a"))._replace(seed=1))
    assert not np.allclose(other.params, runs["a"].params, **CLOSE)
    size = {step: next(r["bytes"] for r in runs[step].engine.rows() if r["message"] != "PARAM") for step in "abc"}
    assert size["a"] < size["b"]
    assert crossings(runs["c"].engine.rows()) == {"GRAD actor>learner", "PARAM learner>actor"}
    learners = {step: {"returns", "gradient"} & phases(runs[step])["learner"] for step in "abc"}
    actors = {step: {"returns", "gradient"} & phases(runs[step])["actor"] for step in "abc"}
    assert learners == {"a": {"returns", "gradient"}, "b": {"gradient"}, "c": set()}
    assert actors == {"a": set(), "b": {"returns"}, "c": {"returns", "gradient"}}


def test_a_mean_of_each_worker_s_mean_would_be_another_gradient():
    config = config_of("a")
    parts, batch = parts_of(config), ran("a", visits=1).batches[0]
    params = parts.learner.acting(parts.learner.init(0))
    shares = [parts.learner.share(params, PolicyLesson(one, rewards_to_go(config, one))) for one in batch]
    pooled = sum(one.grad for one in shares) / sum(one.rows for one in shares)
    naive = np.mean([one.grad / one.rows for one in shares], axis=0)
    assert np.abs(naive - pooled).max() > 1e-3 * np.abs(pooled).max()


@pytest.mark.parametrize("step", "abcd")
def test_many_workers_make_the_params_of_one(step):
    two, one = ran(step, env=APART), ran(step, env=APART, num_actors=1, envs_per_actor=4)
    np.testing.assert_allclose(two.params, one.params, rtol=1e-4, atol=1e-6)
    assert two.states[-1].env_steps == one.states[-1].env_steps
    assert not np.allclose(
        two.params, ran(step, env=APART, num_actors=1, envs_per_actor=3).params, rtol=1e-4, atol=1e-6
    )


def test_the_baseline_is_that_of_the_iteration_before_and_travels_with_the_params():
    run = ran("a", visits=4)
    config = config_of("a")
    for state, batch in zip(run.states, run.batches, strict=True):
        returns = np.concatenate([rewards_to_go(config, one)[one.valid] for one in batch])
        assert state.params[-1] == pytest.approx(returns.mean(), rel=1e-5)
    parts = parts_of(config)
    (row,) = (row for row in run.engine.rows() if row["message"] == "PARAM")
    assert row["bytes"] == row["count"] * 4 * len(parts.agent.init(0))
    assert parts.agent.init(0)[-1] == 0
    lesson = PolicyLesson(run.batches[0][0], rewards_to_go(config, run.batches[0][0]))
    params = np.array(run.states[0].params)
    other = params.copy()
    other[-1] += 1
    assert not np.allclose(parts.learner.share(params, lesson).grad, parts.learner.share(other, lesson).grad)


@pytest.mark.parametrize("step", "ad")
def test_it_is_the_sequential_algorithm(step):
    """A plain loop of episodes and update gives the same params."""
    from shoal.actors.episodes import start_episodes

    fields = {"num_actors": 1, "envs_per_actor": 2}
    config = config_of(step, **fields)
    parts = parts_of(config)
    rollout, state = start_episodes(0, config, parts), parts.learner.init(0)
    for _ in range(3):
        made = rollout.episodes(parts.learner.acting(state), 0, config.unroll_length, config.episode_limit)
        state, _ = parts.learner.update(state, [made])
    np.testing.assert_array_equal(ran(step, parts=parts, **fields).params, state.params)


def test_the_critic_is_fitted_before_the_policy_s_gradient_uses_it():
    run = ran("d", visits=2)
    assert [state.version for state in run.states] == [2, 4]
    assert [state.updates for state in run.states] == [2, 4]
    assert {"loss/value", "loss/policy", "loss/entropy", "grad_norm", "learning_rate"} <= set(run.metrics[0])
    (grad,) = (row for row in run.engine.rows() if row["message"] == "GRAD")
    assert grad["count"] == 2 * 2 * len(run.states)  # two barriers of two actors
    assert grad["lag_max"] == 0
    slow_critic = ran("d", visits=2, critic_rate=1e-6)
    assert not np.allclose(run.params, slow_critic.params, rtol=1e-4, atol=1e-5)


def test_without_barriers_and_with_one_actor_e_is_d():
    fields = {"num_actors": 1, "envs_per_actor": 4}
    with_barriers = ran("d", visits=3, **fields)
    without = ran("e", visits=3, **fields)
    np.testing.assert_array_equal(with_barriers.params, without.params)
    assert np.concatenate(without.lags).max() == 0
    np.testing.assert_array_equal(with_barriers.states[-1].optimiser, without.states[-1].optimiser)


@pytest.mark.evidence("fingerprint", "pg")
@pytest.mark.parametrize(
    ("step", "engine"),
    [
        pytest.param(step, engine, marks=[pytest.mark.slow] if engine in IN_PROCESSES and step in "abe" else [])
        for step in STEPS
        for engine in ENGINES
    ],
)
def test_each_step_shows_its_fingerprint(step, engine):
    parts = None
    if engine == "simulated":
        parts = twin_parts(envs.resolve("toy:catch").spec, 50)
    workers = 2 + CENTRES.get("pg", 0) if engine in IN_PROCESSES else 0
    run = ran(step, engine, visits=4, env="toy:catch", parts=parts, workers=workers)
    rows = run.engine.rows()
    assert faults("pg", rows, step=step) == []
    wrong = {"a": "c", "b": "e", "c": "a", "d": "f", "e": "d", "f": "a"}[step]
    assert faults("pg", rows, step=wrong)
    pids = {place["pid"] for place in run.engine.pids}
    assert len(pids) == workers
    lags = np.concatenate(run.lags)
    assert lags.max() == 0 if step in "abcd" else lags.max() > 0 or engine in FREE


@pytest.mark.evidence("fingerprint", "pg")
@pytest.mark.parametrize("step", ["d", "e", *(pytest.param(step, marks=pytest.mark.slow) for step in "bcf")])
def test_fixed_order_is_bit_equal_inline_and_on_processes(step):
    parts = parts_of(config_of(step), "toy:catch")
    inline = ran(step, visits=6, parts=parts)
    processes = ran(step, "processes", visits=6, parts=parts, timing={"order": "fixed"})
    threads = ran(step, "threads", visits=6, parts=parts, timing={"order": "fixed"})
    np.testing.assert_array_equal(inline.params, processes.params)
    np.testing.assert_array_equal(inline.params, threads.params)
    again = ran(step, visits=6, parts=parts._replace(seed=1))
    assert not np.array_equal(inline.params, again.params)


@pytest.mark.evidence("fingerprint", "pg")
@pytest.mark.parametrize(("step", "waits"), [("a", True), ("d", True), ("e", False), ("f", False)])
def test_a_slow_worker_stops_the_others_only_where_there_are_barriers(step, waits):
    """In virtual time: with one actor five times as slow, iterations take five times as long, or the others go on."""
    costs = {"*": 0.0, "env_step": 1.0, "act": 1.0}
    parts = twin_parts(envs.resolve("toy:catch").spec, 50)
    fields = {"parts": parts, "visits": 12, "pushes_per_visit": 2}
    paces = [{"costs": costs, "slow": slow} for slow in (None, {"actor/0": 5.0})]
    pace = [ran(step, "simulated", timing=timing, **fields).engine.now() for timing in paces]
    assert pace[1] / pace[0] == pytest.approx(5, rel=0.1) if waits else pace[1] / pace[0] < 2.2


@pytest.mark.parametrize("step", ["d", *(pytest.param(step, marks=pytest.mark.slow) for step in "af")])
def test_each_step_carries_memory(step):
    run = ran(step, visits=1, parts=parts_of(config_of(step), "toy:memory", "lstm"))
    assert np.isfinite(run.params).all()
    assert run.states[-1].updates >= 1


@pytest.mark.parametrize("step", "acdef")
def test_a_resumed_run_is_the_uninterrupted_one(step, tmp_path):
    whole = train(tmp_path / "whole", "pg", step=step, order="fixed", engine="inline", num_actors=2, env_steps=800)
    copy = shutil.copytree(whole.run_dir, tmp_path / "copy")
    shutil.rmtree(checkpoints(copy)[-1])
    resumed = resume(copy, quiet=True)
    np.testing.assert_array_equal(resumed.state.params, whole.state.params)
    np.testing.assert_array_equal(resumed.state.optimiser, whole.state.optimiser)
    assert untimed_rows(copy) == untimed_rows(whole.run_dir)


def test_twins_move_what_the_real_parts_move():
    for step in STEPS:
        config = config_of(step, episode_limit=6)
        real_parts = parts_of(config, "toy:catch")
        real = ran(step, visits=4, parts=real_parts, episode_limit=6)
        size = real_parts.agent.init(0).size
        twin = ran(step, "simulated", visits=4, parts=twin_parts(real_parts.spec, size), episode_limit=6)
        for a, b in zip(real.engine.rows(), twin.engine.rows(), strict=True):
            assert (a["message"], a["source"], a["target"]) == (b["message"], b["source"], b["target"])
            assert a["bytes"] / a["count"] == b["bytes"] / b["count"], (step, a["message"])


def test_gradients_that_are_not_finite_are_refused_before_anything_changes():
    from shoal.errors import NonFiniteError

    config = config_of("a")
    parts, batch = parts_of(config), ran("a", visits=1).batches[0]
    state = parts.learner.init(0)
    bad = batch[0]._replace(reward=np.where(batch[0].valid, np.float32(np.inf), 0))
    with pytest.raises(NonFiniteError) as refused:
        parts.learner.update(state, [bad, batch[1]])
    assert "\n" not in str(refused.value)
    np.testing.assert_array_equal(state.params, parts.learner.init(0).params)


@pytest.mark.parametrize("step", ["d", pytest.param("e", marks=pytest.mark.slow)])
def test_a_killed_worker_is_replaced_and_the_others_go_on(step):
    config = config_of(step)
    run = Iterations(make_engine("processes"), 8)
    note = run.visit

    def visit(state, batch, metrics):
        if len(run.states) == 2:
            os.kill(next(place["pid"] for place in run.engine.pids if place["index"] == 0), signal.SIGKILL)
            deadline = time.monotonic() + 60  # where nobody waits for anybody, the others could end the run before
            while not run.engine.losses() and time.monotonic() < deadline:
                time.sleep(0.01)
        return note(state, batch, metrics)

    parts = parts_of(config, "toy:catch")
    run.engine.preload = preloads(parts.agent, pg, config)
    run.engine.run(pg.run, config, parts, None, visit)
    assert len(run.states) == 8
    (loss,) = run.engine.losses()
    assert "actor/0" in loss
    assert np.isfinite(run.params).all()


def test_who_comes_in_between_two_barriers_shares_in_the_second():
    """A worker that begins at a version in the middle of an iteration makes a policy's gradient, as the others do."""
    from shoal.architectures.pg.gradients import play_and_share

    config = config_of("d", num_actors=1)
    parts = parts_of(config, "toy:catch")

    def program():
        with system("pg", "learner") as s:
            params = s.store("PARAM", "learner", parts.agent.init(0), version=5)
            gradients = s.channel("GRAD", "actor", "learner", 1, versions=params, max_lag=0)
            s.spawn("actor", 1, play_and_share, config, parts, params, gradients, 4)
            names = []
            for _ in range(3):
                names += [set(share.losses) for share in gradients.get()]
                params.publish(parts.agent.init(0))
            return names

    policy, critic = {"loss/policy", "loss/entropy"}, {"loss/value"}
    assert make_engine("inline").run(program) == [policy, critic, policy]
