# SPDX-License-Identifier: Apache-2.0
"""Distributions against scipy, by their laws, and against the NumPy twins that actors use."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal import seeds
from shoal.agents import host_math
from shoal.losses import Categorical, DiagGaussian, MultiCategorical, only_legal
from shoal.losses.distributions import split_choices

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
examples = settings(max_examples=20, deadline=None)
any_seed = st.integers(0, 10**6)
categorical_kl = jax.jit(lambda p, q: Categorical(p).kl(Categorical(q)))
gaussian_kl = jax.jit(lambda *pq: DiagGaussian(*pq[:2]).kl(DiagGaussian(*pq[2:])))


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class TestCategorical:
    def test_probabilities_sum_to_one(self):
        logits = 5 * normal(0, 4, 3)
        total = sum(np.exp(Categorical(logits).log_prob(np.full(4, a))) for a in range(3))
        close(total, 1)

    def test_entropy(self):
        logits = normal(0, 4, 3)
        close(Categorical(logits).entropy(), scipy.stats.entropy(scipy.special.softmax(logits, -1), axis=-1))
        close(Categorical(logits * 0).entropy(), np.log(3))

    @examples
    @given(any_seed, st.floats(0, 20, width=32))
    def test_kl_is_never_negative_and_zero_against_itself(self, seed, scale):
        p, q = scale * normal(seed, 2, 4, 3)
        assert np.min(categorical_kl(p, q)) >= -1e-6
        close(categorical_kl(p, p), 0)

    def test_kl(self):
        p, q = normal(0, 2, 4, 3)
        expected = scipy.stats.entropy(scipy.special.softmax(p, -1), scipy.special.softmax(q, -1), axis=-1)
        close(categorical_kl(p, q), expected)

    def test_a_shift_of_logits_changes_nothing(self):
        logits, action = normal(0, 4, 3), np.arange(4) % 3
        close(Categorical(logits).log_prob(action), Categorical(logits + 100).log_prob(action), atol=1e-4)

    def test_forbidden_actions_leave_everything_finite(self):
        logits = np.float32([[0, -np.inf, 1], [-np.inf, -np.inf, 3]])
        rest = np.float32([[0, 1]])
        policy = Categorical(logits)
        close(policy.entropy(), [Categorical(rest).entropy()[0], 0])
        close(policy.kl(policy), 0)
        assert policy.kl(Categorical(logits[::-1]))[0] == np.inf
        assert policy.log_prob(np.array([1, 2]))[0] == -np.inf
        for loss in (lambda x: Categorical(x).entropy(), lambda x: Categorical(x).kl(policy)):
            assert np.all(np.isfinite(jax.grad(lambda x, f=loss: f(x).sum())(logits)))
        gradient = jax.grad(lambda x: Categorical(x).log_prob(np.array([2, 2])).sum())(logits)
        close(gradient[0, [0, 2]], jax.grad(lambda x: Categorical(x).log_prob(np.array([1])).sum())(rest)[0])
        assert gradient[0, 1] == 0

    def test_mode_is_the_sample_without_noise(self):
        logits = normal(0, 4, 3)
        np.testing.assert_array_equal(Categorical(logits).mode(), Categorical(logits).sample(logits * 0))
        np.testing.assert_array_equal(Categorical(logits).mode(), logits.argmax(-1))

    def test_sample_frequencies(self):
        logits = np.float32([1.0, 0.0, -1.0])
        noise = seeds.gumbels(0, "test", np.arange(100), 0, 100, 3)
        action = np.asarray(Categorical(np.broadcast_to(logits, noise.shape)).sample(noise))
        frequency = np.bincount(action.ravel(), minlength=3) / action.size
        close(frequency, scipy.special.softmax(logits), rtol=0, atol=0.015)

    def test_shapes_are_checked(self):
        with pytest.raises(ValueError, match=r"action \[4, 1\]"):
            Categorical(normal(0, 4, 3)).log_prob(np.zeros((4, 1), np.int32))
        with pytest.raises(ValueError, match=r"noise \[4, 1\]"):
            Categorical(normal(0, 4, 3)).sample(normal(0, 4, 1))


class TestMultiCategorical:
    SIZES = (3, 2)

    def joint(self, logits):
        """The same policy as one Categorical over all six joint actions."""
        first, second = (jax.nn.log_softmax(part) for part in split_choices(logits, self.SIZES))
        return Categorical((first[..., :, None] + second[..., None, :]).reshape(*logits.shape[:-1], 6))

    def made(self, logits):
        return MultiCategorical(tuple(Categorical(part) for part in split_choices(logits, self.SIZES)))

    def test_everything_is_that_of_the_joint_actions(self):
        logits, others = 2 * normal(0, 2, 4, 5)
        action = np.stack([np.array([0, 1, 2, 1]), np.array([1, 0, 1, 1])], -1)
        close(self.made(logits).log_prob(action), self.joint(logits).log_prob(action @ np.array([2, 1])))
        close(self.made(logits).entropy(), self.joint(logits).entropy())
        close(self.made(logits).kl(self.made(others)), self.joint(logits).kl(self.joint(others)))
        close(self.made(logits).kl(self.made(logits)), 0)
        np.testing.assert_array_equal(self.made(logits).mode() @ np.array([2, 1]), self.joint(logits).mode())

    def test_probabilities_sum_to_one(self):
        logits = normal(0, 4, 5)
        actions = [np.tile([a, b], (4, 1)) for a in range(3) for b in range(2)]
        close(sum(np.exp(self.made(logits).log_prob(action)) for action in actions), 1)

    def test_mode_is_the_sample_without_noise(self):
        logits = normal(0, 4, 5)
        np.testing.assert_array_equal(self.made(logits).mode(), self.made(logits).sample(logits * 0))

    def test_sample_frequencies(self):
        logits = np.float32([1.0, 0.0, -1.0, 0.5, 0.0])
        noise = seeds.gumbels(0, "test", np.arange(100), 0, 100, 5)
        action = np.asarray(self.made(np.broadcast_to(logits, noise.shape)).sample(noise))
        assert action.shape == (100, 100, 2)
        frequency = np.bincount((action @ np.array([2, 1])).ravel(), minlength=6) / 10_000
        close(frequency, scipy.special.softmax(self.joint(logits).logits), rtol=0, atol=0.02)


class TestMasks:
    MASK = np.array([[True, False, True], [False, False, False], [False, True, False], [True, True, True]])
    ALLOWED = np.array([[True, False, True], [True, True, True], [False, True, False], [True, True, True]])

    def test_a_mask_that_allows_nothing_forbids_nothing(self):
        logits = normal(0, 4, 3)
        for found in (only_legal(logits, self.MASK), host_math.only_legal(logits, self.MASK)):
            np.testing.assert_array_equal(found, np.where(self.ALLOWED, logits, -np.inf))
            assert found.dtype == np.float32

    def test_illegal_actions_have_probability_zero_and_are_never_drawn(self):
        logits = np.tile(normal(0, 4, 3), (500, 1, 1))
        noise = seeds.gumbels(0, "test", np.arange(4), 0, 500, 3)
        policy = Categorical(only_legal(logits, self.MASK))
        probability = np.stack([np.exp(policy.log_prob(np.full((500, 4), a))) for a in range(3)], -1)
        assert not probability[:, ~self.ALLOWED].any()
        close(probability.sum(-1), 1)
        drawn = np.asarray(policy.sample(noise))
        assert self.ALLOWED[np.arange(4), drawn].all()
        assert all(set(drawn[:, row]) == set(np.flatnonzero(self.ALLOWED[row])) for row in range(4))

    def test_everything_that_learns_is_finite(self):
        logits, action = normal(0, 4, 3), np.array([2, 0, 1, 1])
        policy = Categorical(only_legal(logits + 1, self.MASK))

        def total(x):
            masked = Categorical(only_legal(x, self.MASK))
            return (masked.log_prob(action) + masked.entropy() + masked.kl(policy)).sum()

        value, gradient = jax.value_and_grad(total)(logits)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert not gradient[~self.ALLOWED].any()
        assert np.asarray(gradient)[0, [0, 2]].any()

    def test_what_is_left_is_a_policy_over_fewer_actions(self):
        logits = normal(0, 4, 3)
        whole, rest = Categorical(only_legal(logits, self.MASK)), Categorical(logits[:1, [0, 2]])
        close(whole.log_prob(np.array([2, 0, 1, 1]))[0], rest.log_prob(np.array([1]))[0])
        close(whole.entropy()[0], rest.entropy()[0])


class TestDiagGaussian:
    def test_log_prob_is_the_sum_over_dimensions(self):
        mean, log_std, action = normal(0, 3, 4, 2)
        expected = scipy.stats.norm.logpdf(action, mean, np.exp(log_std)).sum(-1)
        close(DiagGaussian(mean, log_std).log_prob(action), expected, rtol=1e-4)

    def test_entropy(self):
        mean, log_std = normal(0, 2, 4, 2)
        close(DiagGaussian(mean, log_std).entropy(), scipy.stats.norm.entropy(mean, np.exp(log_std)).sum(-1))
        wider = DiagGaussian(mean, log_std + np.float32(np.log(2)))
        close(wider.entropy() - DiagGaussian(mean, log_std).entropy(), 2 * np.log(2))

    @examples
    @given(any_seed)
    def test_kl_is_never_negative_and_zero_against_itself(self, seed):
        p = normal(seed, 4, 4, 2)
        assert np.min(gaussian_kl(*p)) >= -1e-5
        close(gaussian_kl(p[0], p[1], p[0], p[1]), 0)

    def test_kl_by_integration(self):
        x = np.linspace(-12, 12, 20001)
        p, q = scipy.stats.norm(0.3, 0.8), scipy.stats.norm(-0.5, 1.7)
        expected = np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
        arrays = [np.float32([[v]]) for v in (0.3, np.log(0.8), -0.5, np.log(1.7))]
        close(gaussian_kl(*arrays), expected)

    def test_one_log_std_may_serve_all_rows(self):
        mean, action, log_std = normal(0, 4, 2), normal(1, 4, 2), normal(2, 2)
        shared, spread = DiagGaussian(mean, log_std), DiagGaussian(mean, np.tile(log_std, (4, 1)))
        close(shared.log_prob(action), spread.log_prob(action))
        close(shared.entropy(), spread.entropy())
        assert shared.entropy().shape == (4,)

    def test_mode_is_the_sample_without_noise(self):
        policy = DiagGaussian(*normal(0, 2, 4, 2))
        np.testing.assert_array_equal(policy.mode(), policy.sample(normal(0, 4, 2) * 0))

    def test_density_of_a_sample_is_that_of_its_noise(self):
        mean, log_std, noise = normal(0, 3, 4, 2)
        policy = DiagGaussian(mean, log_std)
        expected = scipy.stats.norm.logpdf(noise).sum(-1) - log_std.sum(-1)
        close(policy.log_prob(policy.sample(noise)), expected, rtol=1e-4)

    def test_shapes_are_checked(self):
        for log_std in (np.float32(0), normal(0, 1)):
            with pytest.raises(ValueError, match="does not fit mean"):
                DiagGaussian(normal(0, 4, 2), log_std).entropy()
        with pytest.raises(ValueError, match=r"action \[4\], mean \[4, 1\]"):
            DiagGaussian(normal(0, 4, 1), normal(0, 1)).log_prob(normal(0, 4))


class TestHostTwins:
    """What actors compute in NumPy is what learners compute in JAX: else every ratio would start off 1."""

    @examples
    @given(any_seed, st.sampled_from([0.1, 1.0, 30.0, 300.0]))
    def test_categorical(self, seed, scale):
        logits, noise = (scale * normal(seed, 4, 3)).astype(np.float32), normal(seed + 1, 4, 3)
        action = host_math.sample_categorical(logits, noise)
        np.testing.assert_array_equal(action, Categorical(logits).sample(noise))
        result = host_math.log_prob_categorical(logits, action)
        close(result, Categorical(logits).log_prob(action), atol=1e-5)
        assert result.dtype == np.float32

    @examples
    @given(any_seed, st.sampled_from([(3, 2), (2,), (1, 4, 2)]))
    def test_choices(self, seed, sizes):
        logits, noise = normal(seed, 2, 3, 4, sum(sizes))
        logits = np.where(normal(seed + 1, *logits.shape) < -1, np.float32(-np.inf), logits)
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            logits[..., end - size] = 0  # something is left of every choice
        policy = MultiCategorical(tuple(Categorical(part) for part in split_choices(logits, sizes)))
        action = host_math.sample_choices(logits, noise, sizes)
        np.testing.assert_array_equal(action, policy.sample(noise))
        result = host_math.log_prob_choices(logits, action, sizes)
        close(result, policy.log_prob(action))
        assert np.isfinite(result).all()
        assert result.dtype == np.float32

    @examples
    @given(any_seed)
    def test_gaussian(self, seed):
        mean, noise, log_std = normal(seed, 4, 2), normal(seed + 1, 4, 2), normal(seed + 2, 2)
        policy = DiagGaussian(mean, log_std)
        action = host_math.sample_gaussian(mean, log_std, noise)
        close(action, policy.sample(noise))
        result = host_math.log_prob_gaussian(mean, log_std, action)
        close(result, policy.log_prob(action), rtol=1e-4, atol=1e-4)
        assert result.dtype == action.dtype == np.float32

    def test_importing_them_loads_no_jax(self):
        code = "import sys, shoal.agents.host_math; sys.exit('jax' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
