# SPDX-License-Identifier: Apache-2.0
"""The same program gives the same params on every engine in fixed order, and what it computes is the algorithm."""

import time

import numpy as np
import pytest

from architectures.small import CARRY_MEMORY, NAMES, REPLAY, WITHOUT_TRAJECTORIES, Run, config_of, parts_of, run_small
from shoal.actors.rollout import Rollout
from shoal.actors.synchronous import act_in_step
from shoal.architectures import impala, registry
from shoal.engines import make_engine

QUEUED = ("impala", "appo", "seed")


class Dawdling:
    """An environment that takes a random moment for every step: results in fixed order must not notice."""

    def __init__(self, env):
        self._env, self._random = env, np.random.default_rng()

    def __getattr__(self, name):
        return getattr(self._env, name)

    def recv(self, *args):
        time.sleep(self._random.random() * 1e-3)
        return self._env.recv(*args)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("architecture", NAMES)
def test_fixed_order_is_bit_equal_inline_and_on_threads(architecture):
    config = config_of(architecture, 20)
    parts = parts_of(architecture, config)
    slow = parts._replace(make_env=lambda n, first: Dawdling(parts.make_env(n, first)))
    inline = run_small(architecture, "inline", updates=20, parts=parts)
    threads = run_small(architecture, "threads", order="fixed", updates=20, parts=slow)
    assert len(inline.states) >= 20
    assert inline.senders_versions == threads.senders_versions
    np.testing.assert_array_equal(inline.params, threads.params)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize(
    ("architecture", "network"),
    [(name, "auto") for name in NAMES] + [pytest.param(name, "lstm", marks=pytest.mark.slow) for name in CARRY_MEMORY],
)
def test_fixed_order_is_bit_equal_inline_and_on_processes(architecture, network):
    parts = parts_of(architecture, config_of(architecture, 20), network=network)
    inline = run_small(architecture, "inline", updates=20, parts=parts)
    processes = run_small(architecture, "processes", order="fixed", updates=20, parts=parts)
    assert len(inline.states) >= 20
    assert inline.senders_versions == processes.senders_versions
    np.testing.assert_array_equal(inline.params, processes.params)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize(
    "architecture",
    [n if n in ("a2c", "ppo", "impala", "dqn") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_fixed_order_is_bit_equal_on_processes_and_on_nodes(architecture):
    parts = parts_of(architecture, config_of(architecture, 20))
    processes = run_small(architecture, "processes", order="fixed", updates=20, parts=parts)
    nodes = run_small(architecture, "ray", order="fixed", updates=20, parts=parts)
    assert {place["node"] for place in nodes.engine.pids} == {"node0", "node1"}
    assert len(nodes.states) >= 20
    assert processes.senders_versions == nodes.senders_versions
    np.testing.assert_array_equal(processes.params, nodes.params)
    other = run_small(architecture, "ray", order="fixed", updates=20, parts=parts._replace(seed=parts.seed + 1))
    assert not np.array_equal(nodes.params, other.params)


@pytest.mark.parametrize(
    ("architecture", "env", "network"),
    [
        ("ppo", "toy:memory", "lstm"),
        ("impala", "toy:memory", "gru"),
        ("a2c", "toy:gates", "auto"),
        pytest.param("appo", "toy:memory", "lstm", marks=pytest.mark.slow),
        pytest.param("seed", "toy:memory", "lstm", marks=pytest.mark.slow),
    ],
)
def test_memory_masks_and_statistics_are_bit_equal_in_fixed_order(architecture, env, network):
    fields = {"normalise_obs": True, "normalise_reward": True} | ({"minibatches": 2} if "ppo" in architecture else {})
    config = config_of(architecture, 8, **fields)
    parts = parts_of(architecture, config, env, network)
    inline = run_small(architecture, "inline", updates=8, parts=parts, **fields)
    threads = run_small(architecture, "threads", order="fixed", updates=8, parts=parts, **fields)
    np.testing.assert_array_equal(inline.params, threads.params)
    again = run_small(architecture, "inline", updates=8, parts=parts._replace(seed=1), **fields)
    assert not np.array_equal(inline.params, again.params)


@pytest.mark.parametrize("architecture", NAMES)
def test_another_seed_gives_other_params(architecture):
    a = run_small(architecture, "inline", updates=3)
    b = run_small(architecture, "inline", updates=3, seed=1)
    again = run_small(architecture, "inline", updates=3)
    assert not np.array_equal(a.params, b.params)
    np.testing.assert_array_equal(a.params, again.params)


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_lock_step_repeats_in_free_order(architecture):
    runs = [run_small(architecture, engine, updates=8) for engine in ("threads", "threads", "processes")]
    np.testing.assert_array_equal(runs[0].params, runs[1].params)
    np.testing.assert_array_equal(runs[0].params, runs[2].params)


def test_lock_step_does_not_depend_on_how_environments_are_split():
    """Noise and environments depend on the index alone, and trajectories are joined in actor order."""
    two = run_small("a2c", "inline", updates=8, num_actors=2, envs_per_actor=2)
    one = run_small("a2c", "inline", updates=8, num_actors=1, envs_per_actor=4)
    np.testing.assert_array_equal(two.params, one.params)


@pytest.mark.parametrize("architecture", [name for name in NAMES if name not in ("seed", "pg", *REPLAY)])
def test_one_actor_at_lag_zero_is_the_sequential_algorithm(architecture):
    """A plain loop of unroll and update gives the architecture's params, bit for bit."""
    fields = {"num_actors": 1, "envs_per_actor": 2}
    if architecture in QUEUED:
        fields |= {"batch_trajectories": 1, "queue_slots": 1}
    config = config_of(architecture, 12, **fields)
    parts = parts_of(architecture, config)
    run = run_small(architecture, "inline", updates=12, parts=parts, **fields)
    if architecture in WITHOUT_TRAJECTORIES:
        assert np.concatenate(run.lags).max() == 0
        versions = list(range(run.states[-1].version))
    else:
        versions = [version[0] for version in run.senders_versions]
    np.testing.assert_array_equal(run.params, sequential(config, parts, versions))
    if architecture not in QUEUED:
        assert versions == list(range(len(versions)))


def test_impala_with_one_waiting_actor_has_lag_zero_and_is_the_sequential_algorithm(monkeypatch):
    """Its own actor pulls right after it put, one version early; one that waits for the next version has no lag."""
    monkeypatch.setattr(impala, "act_freely", act_in_step)
    fields = {"num_actors": 1, "envs_per_actor": 2, "batch_trajectories": 1}
    config = config_of("impala", 12, **fields)
    parts = parts_of("impala", config)
    run = run_small("impala", "threads", updates=12, parts=parts, **fields)
    assert np.concatenate(run.lags).max() == 0
    np.testing.assert_array_equal(run.params, sequential(config, parts, list(range(len(run.states)))))


def test_impala_with_one_actor_and_no_lag_equals_a2c():
    """Where every ratio is 1, V-trace is the plain actor-critic: the same data then gives the same params."""
    fields = {"num_actors": 1, "envs_per_actor": 2}
    config = config_of("impala", 12, **fields, batch_trajectories=1)
    parts = parts_of("impala", config)
    in_turn = list(range(13))
    impala = sequential(config, parts, in_turn)
    a2c_config = config_of("a2c", 12, **fields)
    a2c = sequential(a2c_config, parts_of("a2c", a2c_config), in_turn)
    np.testing.assert_allclose(impala, a2c, rtol=1e-4, atol=1e-6)


def sequential(config, parts, versions: list[int]) -> np.ndarray:
    """Unroll under the params of each version in turn, update, repeat: no engine, no wires."""
    rollout = Rollout(parts.make_env(config.envs_per_actor, 0), parts.agent, seed=parts.seed, first_index=0)
    state = parts.learner.init(config.seed)
    published = [parts.learner.acting(state)]
    for version in versions:
        if state.env_steps >= config.env_steps:
            break
        trajectory = rollout.unroll(published[version], version, config.unroll_length)
        state, _ = parts.learner.update(state, [trajectory])
        published.append(parts.learner.acting(state))
    return np.array(state.params)


@pytest.mark.parametrize("engine", ["inline", pytest.param("threads", marks=pytest.mark.slow), "processes"])
@pytest.mark.parametrize("architecture", NAMES)
def test_versions_and_counters_go_on_from_the_state_that_is_given(architecture, engine):
    config = config_of(architecture, 8)
    parts = parts_of(architecture, config)
    state = parts.learner.init(0)._replace(updates=700, env_steps=config.env_steps // 2, version=50)
    run = Run(make_engine(engine))
    last = run.engine.run(registry.load(architecture).run, config, parts, state, run.visit)
    assert last is run.states[-1]
    assert run.states[-1 if architecture in REPLAY else 0].updates > 700  # a memory is filled first
    assert last.env_steps >= config.env_steps
    assert run.states[0].env_steps > config.env_steps // 2
    bystander = architecture in (*WITHOUT_TRAJECTORIES, "gorila")
    assert run.states[0].env_steps < config.env_steps or (bystander and engine != "inline")
    if bystander:  # pushes go on while the body looks at the run
        assert run.states[0].version > 50
        assert {s.updates - s.version for s in run.states} == {650}
        assert np.all(np.diff([s.version for s in run.states]) > 0)
        return
    assert [s.version for s in run.states] == list(range(51, 51 + len(run.states)))
    if architecture in REPLAY:
        return
    assert min(version for versions in run.senders_versions for version in versions) == 50
    assert np.concatenate(run.lags).max() == 0 if architecture not in QUEUED else np.concatenate(run.lags).max() < 8
