# SPDX-License-Identifier: Apache-2.0
"""Running statistics: equal to those of all rows together, untouched by gradients, applied alike on host and device."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.made import (
    DISCRETE,
    MASKED,
    TREE,
    act_once,
    draw_noise,
    halves,
    loss_and_gradient,
    make_agent,
    make_trajectory,
)
from shoal.agents.statistics import LIMIT, Statistics, merged, normalised_spec
from shoal.architectures import registry
from shoal.errors import ConfigError
from shoal.learners.base import join
from shoal.types import ArraySpec, Discrete, EnvSpec

BOTH = {"normalise_obs": True, "normalise_reward": True}
MIXED = EnvSpec(
    "made:mixed",
    {"bits": ArraySpec((4,), "bool"), "frames": ArraySpec((4, 8, 8), "uint8"), "ram": ArraySpec((2,), "uint8"),
     "speed": ArraySpec((3,), "float32")},
    Discrete(2),
)  # fmt: skip
jitted_merge = jax.jit(merged)


def statistics_of(agent, spec):
    """(count, mean, variance) of observations, and (count, mean, variance) of returns, in an agent's params."""
    size = make_agent("a2c", spec).init(0).size

    def split(params):
        tail = np.asarray(params)[size:]
        numbers = (len(tail) - 4) // 2
        return (tail[0], tail[1 : 1 + numbers], tail[1 + numbers : 1 + 2 * numbers]), tuple(tail[-3:])

    return split


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.floats(0.01, 100), st.floats(-50, 50))
def test_merging_parts_in_any_order_gives_the_moments_of_all_rows(seed, numbers, scale, shift):
    rng = np.random.default_rng(seed)
    parts = [(scale * rng.normal(size=(40, numbers)) + shift).astype(np.float32) for _ in range(4)]
    weights = [rng.random(40) < rng.choice([0.0, 0.5, 1.0]) for _ in parts]
    begin = np.concatenate([[0], np.zeros(numbers), np.ones(numbers)]).astype(np.float32)
    for order in (range(4), rng.permutation(4)):
        moments = begin
        for i in order:
            # what does not count may hold anything
            rows = np.where(weights[i][:, None], parts[i], np.float32(np.nan))
            moments = jitted_merge(moments, rows, weights[i])
        counted = np.concatenate([part[weight] for part, weight in zip(parts, weights, strict=True)]).astype(np.float64)
        assert moments[0] == len(counted)
        if len(counted):
            np.testing.assert_allclose(moments[1 : 1 + numbers], counted.mean(0), rtol=1e-4, atol=1e-3 * scale)
            np.testing.assert_allclose(moments[1 + numbers :], counted.var(0), rtol=2e-3, atol=1e-4 * scale**2)
        else:
            np.testing.assert_array_equal(moments, begin)


def test_a_million_batches_keep_their_precision():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1024, 1)).astype(np.float32)
    old = np.array([1e9, 5.0, 4.0], np.float32)
    moments = np.asarray(jitted_merge(old, rows, np.ones(1024, bool)))
    share = 1024 / (1e9 + 1024)
    assert moments[1] == pytest.approx(5 + share * (rows.mean() - 5), abs=1e-6)
    assert moments[0] > old[0]


@pytest.mark.parametrize(
    ("architecture", "spec"),
    [("a2c", DISCRETE), ("a2c", TREE), ("ppo", MASKED), ("impala", MASKED)],
    ids=lambda value: getattr(value, "id", value),
)
def test_an_update_counts_valid_rows_once_and_after_its_steps(architecture, spec):
    module = registry.load(architecture)
    agent = make_agent(architecture, spec, **BOTH)
    learner = module.make_learner(module.Config(**BOTH), agent)
    params = agent.init(0)
    first, second = (make_trajectory(agent, spec, params, seed) for seed in (0, 1))
    split = statistics_of(agent, spec)
    (count, mean, variance), reward = split(params)
    assert (count, *reward) == (0, 0, 0, 1)
    np.testing.assert_array_equal(mean, 0 * mean)
    np.testing.assert_array_equal(variance, 0 * mean + 1)
    state, _ = learner.update(learner.init(0), [first])
    state, _ = learner.update(state, halves(second))
    (count, mean, variance), reward = split(state.params)
    seen = {name: part for name, part in first.obs.items() if name != "action_mask"} if spec is not DISCRETE else None
    columns, returns = [], []
    for trajectory in (first, second):
        leaves = jax.tree.leaves(trajectory.obs if seen is None else {name: trajectory.obs[name] for name in seen})
        steps, envs = trajectory.valid.shape
        rows = np.concatenate([leaf[:-1].reshape(steps, envs, -1) for leaf in leaves], -1)
        columns.append(rows[trajectory.valid])
        returns.append(trajectory.discounted_return[trajectory.valid])
    expected, expected_returns = np.concatenate(columns), np.concatenate(returns)
    assert count == reward[0] == len(expected)
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, expected.var(0), rtol=1e-4)
    np.testing.assert_allclose(reward[1:], [expected_returns.mean(), expected_returns.var()], rtol=1e-4)


def test_statistics_get_no_gradient_and_the_optimiser_leaves_them():
    agent = make_agent("a2c", DISCRETE, **BOTH)
    params = agent.init(0)
    trajectory = make_trajectory(agent, DISCRETE, params)
    params[-10:] = np.random.default_rng(0).random(10)  # 1 + 2 * 3 of observations, 3 of returns
    _, _, gradient = loss_and_gradient(agent, params, trajectory)
    assert not gradient[-10:].any()
    assert gradient[:-10].any()


def test_policies_see_normalised_numbers_cut_off_at_the_limit():
    plain, normalising = make_agent("a2c", DISCRETE), make_agent("a2c", DISCRETE, normalise_obs=True)
    params = normalising.init(0)
    mean, deviation = np.array([1, -2, 30], np.float32), np.array([0.5, 2, 10], np.float32)
    params[-7:] = np.concatenate([[100], mean, deviation**2])
    obs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) * 20
    noise = draw_noise(plain, np.random.default_rng(1), 6)
    normalised = np.clip((obs - mean) / deviation, -LIMIT, LIMIT)
    assert (np.abs(normalised) == LIMIT).any()
    expected = act_once(plain, params[:-7], normalised, noise)[1]
    np.testing.assert_allclose(act_once(normalising, params, obs, noise)[1], expected, rtol=1e-4, atol=1e-5)


def test_rewards_are_scaled_by_the_deviation_of_returns():
    statistics = Statistics(DISCRETE, 5, obs=False, reward=True)
    params = np.concatenate([np.zeros(5), [100, 3.0, 16.0]]).astype(np.float32)
    reward = np.array([[-4.0, 0.0, 2.0, 1000.0]], np.float32)
    np.testing.assert_allclose(statistics.scale_reward(params, reward), [[-1, 0, 0.5, LIMIT]], rtol=1e-6)
    never_varied = params.copy()
    never_varied[-1] = 0
    np.testing.assert_allclose(statistics.scale_reward(never_varied, reward), [[-4, 0, 2, LIMIT]], rtol=1e-6)


def test_what_is_learnt_does_not_depend_on_the_unit_of_rewards():
    agent = make_agent("a2c", DISCRETE, normalise_reward=True)
    module = registry.load("a2c")
    learner = module.make_learner(module.Config(normalise_reward=True, anneal_learning_rate=False), agent)
    trajectory = make_trajectory(agent, DISCRETE, agent.init(0))
    states = []
    for unit in (1.0, 64.0):
        scaled = trajectory._replace(
            reward=trajectory.reward * np.float32(unit),
            discounted_return=trajectory.discounted_return * np.float32(unit),
        )
        params = jax.jit(agent.observe)(agent.init(0), scaled)
        state = learner.init(0)._replace(params=params)
        states.append(learner.update(state, [scaled])[0])
    np.testing.assert_allclose(states[0].params[:-3], states[1].params[:-3], rtol=1e-4, atol=1e-6)


def test_bits_and_frames_stay_as_they_are():
    statistics = Statistics(MIXED, 10, obs=True, reward=False)
    places = {place.path: place.moments for place in statistics.places()}
    assert places == {("bits",): None, ("frames",): None, ("ram",): (11, 16), ("speed",): (13, 18)}
    assert statistics.size == 11
    dtypes = {name: leaf.dtype for name, leaf in normalised_spec(MIXED).obs.items()}
    assert dtypes == {"bits": "bool", "frames": "uint8", "ram": "float32", "speed": "float32"}


def test_nothing_to_normalise_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="normalise_obs") as refused:
        normalised_spec(EnvSpec("made:frames", ArraySpec((4, 84, 84), "uint8"), Discrete(2)))
    assert "\n" not in str(refused.value)


def test_joined_batches_carry_returns():
    agent = make_agent("a2c", DISCRETE)
    trajectory = make_trajectory(agent, DISCRETE, agent.init(0))
    np.testing.assert_array_equal(join(halves(trajectory)).discounted_return, trajectory.discounted_return)
    without = trajectory._replace(discounted_return=())
    assert join(halves(without)).discounted_return == ()
