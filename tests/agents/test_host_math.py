# SPDX-License-Identifier: Apache-2.0
"""NumPy's sampling and log-probabilities are those of the learner's distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.agents import host_math
from shoal.losses.distributions import Categorical, DiagGaussian

SHAPES = [(4,), (3, 4), (5, 3, 2), (2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_categorical(shape):
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=shape)).astype(np.float32)
    noise = rng.gumbel(size=shape).astype(np.float32)
    action = host_math.sample_categorical(logits, noise)
    np.testing.assert_array_equal(action, Categorical(logits).sample(noise))
    found = host_math.log_prob_categorical(logits, action)
    np.testing.assert_allclose(found, Categorical(logits).log_prob(action), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian(shape):
    rng = np.random.default_rng(1)
    mean, noise = rng.normal(size=(2, *shape)).astype(np.float32)
    log_std = rng.normal(size=shape[-1]).astype(np.float32)
    action = host_math.sample_gaussian(mean, log_std, noise)
    np.testing.assert_allclose(action, DiagGaussian(mean, log_std).sample(noise), rtol=1e-5, atol=1e-6)
    found = host_math.log_prob_gaussian(mean, log_std, action)
    np.testing.assert_allclose(found, DiagGaussian(mean, log_std).log_prob(action), rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=6), st.data())
def test_log_probabilities_of_far_logits_are_finite_and_sum_to_one(values, data):
    logits = np.array(values, np.float32)
    everything = np.arange(len(logits))
    log_prob = host_math.log_prob_categorical(np.tile(logits, (len(logits), 1)), everything)
    assert np.isfinite(log_prob).all()
    assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-5)


def test_everything_stays_in_single_precision():
    rng = np.random.default_rng(2)
    head, noise = rng.normal(size=(2, 3, 2)).astype(np.float32)
    log_std = np.zeros(2, np.float32)
    assert host_math.sample_gaussian(head, log_std, noise).dtype == np.float32
    assert host_math.log_prob_gaussian(head, log_std, noise).dtype == np.float32
    assert host_math.log_prob_categorical(head, np.zeros(3, int)).dtype == np.float32
