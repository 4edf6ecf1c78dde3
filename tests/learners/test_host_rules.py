# SPDX-License-Identifier: Apache-2.0
"""Rules in NumPy against optax, part by part, and the identities that their docstrings state."""

import dataclasses

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.architectures import registry
from shoal.errors import ConfigError
from shoal.learners.host_rules import AdaGrad, Adam, Apart, Momentum, RmsProp, Sgd, clip_to, corrected, make_host_rule

RATE = 0.01
RULES = [
    (Sgd(), optax.identity()),
    (Momentum(0.8), optax.trace(0.8)),
    (RmsProp(0.9, 1e-3), optax.scale_by_rms(0.9, 1e-3, eps_in_sqrt=False)),
    (RmsProp(0.9, 0.1, epsilon_in_root=True), optax.scale_by_rms(0.9, 0.1, eps_in_sqrt=True)),
    (RmsProp(0.9, 0.1, centred=True), optax.scale_by_stddev(0.9, 0.1, eps_in_sqrt=False)),
    (RmsProp(0.9, 0.1, True, True), optax.scale_by_stddev(0.9, 0.1, eps_in_sqrt=True)),
    (Adam(1e-12), optax.scale_by_adam(eps=1e-12)),
    (AdaGrad(1e-12), optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-24)),
]


def gradients(seed=0, count=12, size=9):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def stepped(rule, grads, parts=(slice(None),)):
    """Params after the rule on these parts, one gradient after the other."""
    params, moments = np.ones(9, np.float32), np.zeros((rule.moments, 9), np.float32)
    for step, grad in enumerate(grads, 1):
        for part in parts:
            rule(params[part], moments[:, part], grad[part], corrected(rule, RATE, step))
    return params, moments


@pytest.mark.parametrize(("rule", "oracle"), RULES)
def test_a_rule_is_its_twin_in_optax(rule, oracle):
    params, state = np.ones(9, np.float32), oracle.init(np.ones(9, np.float32))
    for grad in gradients():
        direction, state = oracle.update(grad, state)
        params = params - RATE * np.asarray(direction)
    mine, _ = stepped(rule, gradients())
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, params, rtol=2e-5)
    assert not np.allclose(stepped(rule, gradients(1))[0], params, rtol=1e-3)


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES])
def test_parts_in_any_order_are_the_whole(rule):
    whole = stepped(rule, gradients())
    parts = stepped(rule, gradients(), (slice(5, 9), slice(0, 2), slice(2, 5)))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9), st.floats(0.01, 100))
def test_clipped_gradients_are_no_longer_than_asked(numbers, limit):
    grad = np.array(numbers, np.float32)
    clipped, norm = clip_to(grad, limit)
    assert np.linalg.norm(clipped) <= limit * (1 + 1e-5)
    if norm < limit * (1 - 1e-6):
        np.testing.assert_array_equal(clipped, grad)


def test_the_first_step_of_adam_has_the_rate_as_its_length():
    grad = np.array([1e-2, -5.0], np.float32)
    params, moments = np.zeros(2, np.float32), np.zeros((2, 2), np.float32)
    Adam(1e-12)(params, moments, grad, corrected(Adam(), RATE, 1))
    np.testing.assert_allclose(params, [-RATE, RATE], rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop", "adam"])
def test_a_config_names_a_rule(name):
    config = dataclasses.replace(registry.load("a2c").Config(), optimiser=name)
    assert type(make_host_rule(config)).__name__.lower() == name


def test_rules_that_see_the_whole_vector_are_refused():
    class Other:
        optimiser, epsilon_over_batch, optimiser_epsilon = "lamb", False, 1e-5

    with pytest.raises(ConfigError, match="optimiser='lamb' cannot work on parts") as refused:
        make_host_rule(Other())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("rule", [Sgd(), RmsProp(), Adam()], ids=lambda rule: type(rule).__name__)
def test_gradients_apart_have_moments_of_their_own(rule):
    rng = np.random.default_rng(0)
    apart, params = Apart(rule), rng.normal(size=9).astype(np.float32)
    moments, expected = np.zeros((apart.moments, 9), np.float32), params.copy()
    own = [np.zeros((rule.moments, 9), np.float32) for _ in range(2)]
    for turn in (0, 1, 1, 0):
        both = np.zeros((2, 9), np.float32)
        both[turn] = rng.normal(size=9)
        apart(params, moments, both, 0.1)
        rule(expected, own[turn], both[turn], 0.1)
    np.testing.assert_array_equal(params, expected)
    np.testing.assert_array_equal(moments, np.concatenate(own))
