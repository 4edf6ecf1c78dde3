# SPDX-License-Identifier: Apache-2.0
"""Returns against their definitions, against rlax, by hand, and by the laws they obey."""

import functools

import jax
import numpy as np
import pytest
import rlax
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import returns as slow
from reference import trajectories
from shoal import losses

# jitted once for all tests: numbers are traced, so only a new shape compiles
gae = jax.jit(losses.gae)
vtrace = jax.jit(losses.vtrace)
lambda_returns = jax.jit(losses.lambda_returns)
n_step_returns = jax.jit(losses.n_step_returns, static_argnames="steps")
fractions = st.floats(0.0, 1.0, width=32)
seeds = st.integers(0, 10**6)
examples = settings(max_examples=25, deadline=None)
close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4)


def one_env(*rows):
    return [np.asarray(row)[:, None] for row in rows]


class TestAgainstDefinitions:
    @examples
    @given(seeds, fractions, fractions)
    def test_lambda_returns_and_gae(self, seed, discount, trace_decay):
        columns = trajectories.make(seed)
        expected = slow.lambda_returns(columns, discount, trace_decay)
        result = gae(*columns[:5], discount=discount, trace_decay=trace_decay)
        close(result.target, expected)
        close(result.advantage, np.where(columns.valid, expected - columns.value[:-1], 0.0))
        close(lambda_returns(*columns[:5], discount=discount, trace_decay=trace_decay), expected)

    @pytest.mark.parametrize("steps", [1, 2, 3, 6, 7, 50])
    def test_n_step_returns(self, steps):
        for seed in range(8):
            columns = trajectories.make(seed)
            result = n_step_returns(*columns[:5], discount=0.9, steps=steps)
            close(result, slow.n_step_returns(columns, 0.9, steps))

    @examples
    @given(seeds, fractions, fractions, *[st.floats(0.25, 4.0, width=32)] * 3)
    def test_vtrace(self, seed, discount, trace_decay, max_ratio, max_trace, max_pg_ratio):
        columns = trajectories.make(seed)
        limits = {"max_ratio": max_ratio, "max_trace": max_trace, "max_pg_ratio": max_pg_ratio}
        result = vtrace(*columns, discount=discount, trace_decay=trace_decay, **limits)
        target, advantage = slow.vtrace(columns, discount, trace_decay, **limits)
        close(result.target, target, rtol=2e-3, atol=2e-3)
        close(result.advantage, advantage, rtol=2e-3, atol=2e-3)

    def test_hand_example(self):
        reward, value, ratio = one_env([1.0, 0, 2], [5.0, 6, 4, 3], [1.5, 0.5, 2])
        no = np.zeros((3, 1), bool)
        result = losses.vtrace(reward, value, no, no, ~no, np.log(ratio), discount=0.9)
        close(result.target[:, 0], [5.6035, 5.115, 4.7], rtol=1e-6)
        close(result.advantage[:, 0], [1 + 0.9 * 5.115 - 5, 0.5 * (0.9 * 4.7 - 6), 2 + 0.9 * 3 - 4], rtol=1e-5)


class TestAgainstRlax:
    """rlax knows discounts but no truncation, so these trajectories end by termination only and have no reset rows."""

    @pytest.fixture
    def columns(self):
        columns = trajectories.make(3)
        assert columns.truncated.any()
        return columns._replace(truncated=np.zeros_like(columns.truncated), valid=np.ones_like(columns.valid))

    @pytest.fixture
    def discount_t(self, columns):
        return np.where(columns.terminated, 0.0, 0.97).astype(np.float32)

    @staticmethod
    def by_env(fn, *columns):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return jax.jit(jax.vmap(fn, in_axes=1, out_axes=1))(*columns)

    def test_gae(self, columns, discount_t):
        expected = self.by_env(
            lambda r, d, v: rlax.truncated_generalized_advantage_estimation(r, d, 0.9, v),
            *(columns.reward, discount_t, columns.value),
        )
        close(gae(*columns[:5], discount=0.97, trace_decay=0.9).advantage, expected)

    def test_discount_and_trace_decay_may_differ_by_row(self, columns):
        discount, trace_decay = np.random.default_rng(0).uniform(size=(2, 7, 3)).astype(np.float32)
        expected = self.by_env(
            lambda r, d, v, decay: rlax.truncated_generalized_advantage_estimation(r, d, decay, v),
            *(columns.reward, np.where(columns.terminated, 0, discount), columns.value, trace_decay),
        )
        close(gae(*columns[:5], discount=discount, trace_decay=trace_decay).advantage, expected)

    def test_lambda_returns(self, columns, discount_t):
        expected = self.by_env(
            lambda r, d, v: rlax.lambda_returns(r, d, v, 0.9), columns.reward, discount_t, columns.value[1:]
        )
        close(lambda_returns(*columns[:5], discount=0.97, trace_decay=0.9), expected)

    def test_n_step_returns(self, columns, discount_t):
        expected = self.by_env(
            lambda r, d, v: rlax.n_step_bootstrapped_returns(r, d, v, 3), columns.reward, discount_t, columns.value[1:]
        )
        close(n_step_returns(*columns[:5], discount=0.97, steps=3), expected)

    def test_vtrace(self, columns, discount_t):
        expected = self.by_env(
            lambda v, w, r, d, rho: rlax.vtrace_td_error_and_advantage(v, w, r, d, rho, 0.8, 1.5, 2.0),
            *(columns.value[:-1], columns.value[1:], columns.reward, discount_t, np.exp(columns.log_ratio)),
        )
        result = vtrace(*columns, discount=0.97, trace_decay=0.8, max_ratio=1.5, max_pg_ratio=2.0)
        close(result.target - columns.value[:-1], expected.errors)
        close(result.advantage, expected.pg_advantage)


class TestEpisodeEnds:
    """Where episodes end is where implementations go wrong without failing."""

    def test_terminated_is_worth_nothing_and_truncated_is_worth_its_value(self):
        reward, value = one_env([1.0, 1, 0, 1], [10.0, 20, 30, 40, 50])
        no, end = np.zeros((4, 1), bool), np.zeros((4, 1), bool)
        end[1], valid = True, ~no
        valid[2] = False
        for terminated, truncated, second in ((end, no, 1.0), (no, end, 1 + 0.5 * 30)):
            target = losses.gae(reward, value, terminated, truncated, valid, discount=0.5, trace_decay=1.0).target
            close(target[:, 0], [1 + 0.5 * second, second, 30, 1 + 0.5 * 50])

    @pytest.mark.parametrize("seed", range(5))
    def test_merging_the_two_ends_changes_every_estimator(self, seed):
        columns = trajectories.make(seed, end_prob=0.6)
        merged = columns._replace(terminated=columns.ended, truncated=columns.ended & False)
        swapped = columns._replace(terminated=columns.truncated, truncated=columns.terminated)
        for wrong in (merged, swapped):
            for fn, n in ((_gae, 5), (_n_step, 5), (_vtrace, 6)):
                gap = np.abs(fn(*columns[:n]) - fn(*wrong[:n]))
                assert gap[columns.truncated & columns.valid].min() > 1e-4, fn

    @pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30, -1e30])
    def test_junk_that_must_not_count_changes_nothing(self, junk):
        for seed in range(4):
            columns = trajectories.make(seed)
            spoiled = trajectories.spoil(columns, junk)
            for fn, n in ((_gae, 5), (_n_step, 5), (_vtrace, 6)):
                before, after = fn(*columns[:n]), fn(*spoiled[:n])
                np.testing.assert_array_equal(before[columns.valid], after[columns.valid])
            assert not np.any(vtrace(*spoiled, discount=0.9).advantage[~columns.valid])
            assert not np.any(gae(*spoiled[:5], discount=0.9, trace_decay=0.9).advantage[~columns.valid])

    def test_both_flags_at_once_count_as_terminated(self):
        columns = trajectories.make(1)
        both = columns._replace(truncated=columns.ended, terminated=columns.terminated)
        np.testing.assert_array_equal(_vtrace(*columns), _vtrace(*both))

    @pytest.mark.parametrize("kind", ["terminated", "truncated"])
    def test_cutting_at_an_end_gives_the_same_rows(self, kind):
        columns = trajectories.endless(0)
        getattr(columns, kind)[2] = True
        columns.valid[3] = False
        first = [c[:3] for c in columns]
        first[1] = columns.value[:4]
        second = [c[4:] for c in columns]
        for fn, n in ((_gae, 5), (_n_step, 5), (_vtrace, 6)):
            whole = fn(*columns[:n])
            np.testing.assert_allclose(whole[:3], fn(*first[:n]), rtol=1e-6)
            np.testing.assert_allclose(whole[4:], fn(*second[:n]), rtol=1e-6)

    def test_only_a_truncated_row_bootstraps_without_a_trace(self):
        columns = trajectories.make(5)
        weights = losses.discounts(columns.terminated, columns.truncated, columns.valid, 0.9)
        bootstrap, trace = np.asarray(weights.bootstrap) > 0, np.asarray(weights.trace) > 0
        np.testing.assert_array_equal(bootstrap & ~trace, columns.truncated & columns.valid)
        assert not np.any(trace & ~bootstrap)
        np.testing.assert_array_equal(bootstrap, columns.valid & ~columns.terminated)


def _gae(*columns):
    return np.asarray(gae(*columns, discount=0.9, trace_decay=0.8).advantage)


def _n_step(*columns):
    return np.asarray(n_step_returns(*columns, discount=0.9, steps=3))


def _vtrace(*columns):
    return np.asarray(vtrace(*columns, discount=0.9).target)


class TestLaws:
    @examples
    @given(seeds, fractions)
    def test_on_policy_vtrace_is_the_n_step_return(self, seed, discount):
        columns = trajectories.make(seed)
        on_policy = columns._replace(log_ratio=columns.log_ratio * 0)
        target = vtrace(*on_policy, discount=discount).target
        close(target, n_step_returns(*columns[:5], discount=discount, steps=7))

    @examples
    @given(seeds, fractions)
    def test_gae_with_full_traces_is_return_minus_value(self, seed, discount):
        columns = trajectories.make(seed)
        monte_carlo = n_step_returns(*columns[:5], discount=discount, steps=7)
        close(gae(*columns[:5], discount=discount, trace_decay=1.0).advantage, monte_carlo - columns.value[:-1])

    def test_one_step_is_trace_decay_zero(self):
        columns = trajectories.make(7)
        one = n_step_returns(*columns[:5], discount=0.9, steps=1)
        close(one, lambda_returns(*columns[:5], discount=0.9, trace_decay=0.0))

    def test_without_value_full_traces_sum_rewards(self):
        columns = trajectories.endless(7)
        powers = 0.9 ** np.arange(7)
        expected = [powers[: 7 - t] @ columns.reward[t:] for t in range(7)]
        blind = columns._replace(value=columns.value * 0)
        close(lambda_returns(*blind[:5], discount=0.9, trace_decay=1.0), expected)

    @examples
    @given(seeds)
    def test_permuting_environments_permutes_results(self, seed):
        columns = trajectories.make(seed)
        order = np.random.default_rng(seed).permutation(3)
        permuted = [c[:, order] for c in columns]
        for fn, n in ((_gae, 5), (_n_step, 5), (_vtrace, 6)):
            np.testing.assert_array_equal(fn(*columns[:n])[:, order], fn(*permuted[:n]))

    def test_scaling_rewards_and_values_scales_results(self):
        columns = trajectories.make(8)
        scaled = columns._replace(reward=columns.reward * 4, value=columns.value * 4)
        for fn, n in ((_gae, 5), (_n_step, 5), (_vtrace, 6)):
            np.testing.assert_allclose(fn(*columns[:n]) * 4, fn(*scaled[:n]), rtol=1e-6)

    def test_shifting_rewards_with_their_value_leaves_advantages(self):
        columns = trajectories.endless(9)
        shifted = columns._replace(reward=columns.reward + 1, value=columns.value + np.float32(1 / (1 - 0.9)))
        close(_gae(*columns[:5]), _gae(*shifted[:5]))
        close(_vtrace(*shifted) - _vtrace(*columns), np.full((7, 3), 10.0))

    def test_a_ratio_of_zero_leaves_the_value(self):
        columns = trajectories.make(2)._replace(log_ratio=np.full((7, 3), -np.inf, np.float32))
        result = vtrace(*columns, discount=0.9)
        np.testing.assert_array_equal(result.target, columns.value[:-1])
        assert not np.any(result.advantage)

    def test_later_rows_alone_decide(self):
        columns = trajectories.endless(3)
        changed = columns._replace(reward=columns.reward.copy())
        changed.reward[3] += 1
        moved = np.abs(_gae(*columns[:5]) - _gae(*changed[:5])).max(1) > 0
        np.testing.assert_array_equal(moved, [True] * 4 + [False] * 3)


class TestCompilation:
    def test_jit_changes_nothing(self):
        columns = trajectories.make(6)
        with jax.disable_jit():
            plain = losses.vtrace(*columns, discount=0.9), losses.gae(*columns[:5], discount=0.9, trace_decay=0.8)
        close(plain[0].target, _vtrace(*columns), rtol=1e-6, atol=1e-6)
        close(plain[1].advantage, _gae(*columns[:5]), rtol=1e-6, atol=1e-6)

    def test_new_numbers_do_not_compile_again(self):
        traces = []

        @jax.jit
        def counted(*columns, discount):
            traces.append(discount)
            return losses.gae(*columns, discount=discount, trace_decay=discount)

        for seed in range(3):
            counted(*trajectories.make(seed)[:5], discount=0.9 + seed / 100)
        assert len(traces) == 1

    def test_no_gradient_passes(self):
        columns = trajectories.make(6)

        @jax.jit
        @functools.partial(jax.grad, argnums=(0, 1, 2))
        def through(reward, value, log_ratio):
            flags = columns[2:5]
            v = losses.vtrace(reward, value, *flags, log_ratio, discount=0.9)
            a = losses.gae(reward, value, *flags, discount=0.9, trace_decay=0.9)
            n = losses.n_step_returns(reward, value, *flags, discount=0.9, steps=2)
            return (v.target + v.advantage + a.advantage + a.target + n).sum()

        for gradient in through(columns.reward, columns.value, columns.log_ratio):
            assert not np.any(gradient)


class TestBoundary:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"value": np.zeros((7, 3), np.float32)}, r"value has shape \[7, 3\].*pass \[8, 3\]"),
            ({"reward": np.zeros((7,), np.float32)}, r"reward \[7\]"),
            ({"reward": np.zeros((7, 1), np.float32)}, r"reward \[7, 1\]"),
            ({"valid": np.ones((8, 3), bool)}, r"valid \[8, 3\]"),
            ({"terminated": np.zeros((7, 3), np.float32)}, "terminated is float32; pass bool"),
            ({"log_ratio": np.zeros((3, 7), np.float32)}, r"log_ratio \[3, 7\]"),
        ],
    )
    def test_wrong_arrays_are_refused_in_one_line(self, change, message):
        columns = trajectories.make(0)._replace(**change)
        with pytest.raises(ValueError, match=message) as caught:
            losses.vtrace(*columns, discount=0.9)
        assert "\n" not in str(caught.value)

    def test_no_rows_are_refused(self):
        empty = [np.zeros((0, 3), np.float32), np.zeros((1, 3), np.float32), *[np.zeros((0, 3), bool)] * 3]
        with pytest.raises(ValueError, match="T at least 1"):
            losses.gae(*empty, discount=0.9, trace_decay=0.9)

    def test_zero_steps_are_refused(self):
        with pytest.raises(ValueError, match="steps=0"):
            losses.n_step_returns(*trajectories.make(0)[:5], discount=0.9, steps=0)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 3), (7, 1)])
    def test_single_rows_and_environments(self, shape):
        columns = trajectories.make(11, *shape)
        close(gae(*columns[:5], discount=0.9, trace_decay=0.8).target, slow.lambda_returns(columns, 0.9, 0.8))
