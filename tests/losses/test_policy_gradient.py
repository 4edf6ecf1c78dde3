# SPDX-License-Identifier: Apache-2.0
"""Losses by hand, by their gradients and by what must not move them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import trajectories
from shoal import losses

SHAPE = (5, 4)
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
clipped_surrogate = jax.jit(losses.clipped_surrogate, static_argnames="reduction")
seeds = st.integers(0, 10**6)


def normal(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def whole_loss(logits, value, old_log_prob, advantage, target, action, weight):
    """What an actor-critic update minimises, all parts at once."""
    policy = losses.Categorical(logits)
    surrogate = losses.clipped_surrogate(policy.log_prob(action), old_log_prob, advantage, weight, clip=0.2)
    plain = losses.policy_gradient_loss(policy.log_prob(action), advantage, weight)
    critic = losses.value_loss(value, target, weight, old_value=target, clip=0.5)
    return surrogate.loss + plain + 0.5 * critic + 0.01 * losses.entropy_loss(policy.entropy(), weight)


grad_whole = jax.jit(jax.value_and_grad(whole_loss, argnums=(0, 1)))


def batch(seed):
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 3, SHAPE).astype(np.int32)
    weight = rng.random(SHAPE) < 0.7
    weight[0, 0], weight[1, 1] = True, False
    parts = [normal(seed + 1, (*SHAPE, 3)), *(normal(seed + k) for k in (2, 3, 4, 5)), action, weight]
    parts[2] = -np.abs(parts[2])
    return parts


class TestReduce:
    def test_mean_divides_by_weight(self):
        x, weight = np.float32([1, 2, 4]), np.float32([1, 0.5, 0])
        close(losses.reduce(x, weight), 2 / 1.5)
        close(losses.reduce(x, weight, "sum"), 2)

    def test_nothing_that_counts_gives_zero(self):
        x = np.float32([1, np.nan])
        for reduction in ("mean", "sum"):
            value, gradient = jax.value_and_grad(losses.reduce)(x, np.zeros(2, bool), reduction)
            assert value == 0
            assert not np.any(gradient)

    @pytest.mark.parametrize("junk", [np.nan, np.inf, 1e30])
    def test_zero_weight_moves_no_loss_and_no_gradient(self, junk):
        parts = batch(0)
        off = ~parts[-1]
        spoiled = [np.where(off.reshape(off.shape + (1,) * (p.ndim - 2)), p.dtype.type(junk), p) for p in parts[:5]]
        # the network's own outputs stay finite: its gradient there is what must vanish
        spoiled[:1] = [np.where(off[..., None], np.float32(1e3), parts[0])]
        action = np.where(off, 77, parts[5]).astype(np.int32)
        loss, gradients = grad_whole(*parts)
        other_loss, other_gradients = grad_whole(*spoiled, action, parts[-1])
        np.testing.assert_array_equal(loss, other_loss)
        for gradient, other in zip(gradients, other_gradients, strict=True):
            np.testing.assert_array_equal(gradient, other)
            assert not np.any(gradient[off])
            assert np.all(np.any(gradient[~off].reshape((~off).sum(), -1), -1))

    @pytest.mark.parametrize(
        ("loss", "num_arrays"),
        [
            (losses.policy_gradient_loss, 2),
            (lambda *a: losses.clipped_surrogate(*a, clip=0.2).loss, 3),
            (losses.value_loss, 2),
            (lambda x, old, y, w: losses.value_loss(x, y, w, old_value=old, clip=0.2), 3),
            (losses.entropy_loss, 1),
        ],
    )
    def test_not_a_number_without_weight_moves_nothing_in_any_argument(self, loss, num_arrays):
        arrays, weight = [normal(k) for k in range(num_arrays)], normal(9) > 0
        spoiled = [np.where(weight, x, np.float32(np.nan)) for x in arrays]
        both = jax.jit(jax.value_and_grad(loss))
        for before, after in zip(both(*arrays, weight), both(*spoiled, weight), strict=True):
            np.testing.assert_array_equal(before, after)

    @settings(max_examples=10, deadline=None)
    @given(seeds)
    def test_order_of_elements_does_not_matter(self, seed):
        parts = batch(seed)
        order = np.random.default_rng(seed).permutation(SHAPE[1])
        close(whole_loss(*parts), whole_loss(*[p[:, order] for p in parts]), rtol=1e-4)

    def test_unknown_reduction_is_refused(self):
        with pytest.raises(ValueError, match="reduction='max' is unknown; pass 'mean' or 'sum'"):
            losses.reduce(np.ones(3, np.float32), np.ones(3, bool), "max")


class TestNormalise:
    def test_shift_and_scale_do_not_matter(self):
        advantage, weight = normal(0), normal(1) > -0.5
        result = losses.normalise(advantage, weight)
        close(result, losses.normalise(advantage * 3 + 7, weight), rtol=1e-4, atol=1e-5)
        close([result[weight].mean(), result[weight].std()], [0, 1], atol=1e-5)

    def test_reset_rows_enter_no_statistic(self):
        advantage, weight = normal(0), normal(1) > 0
        junk = np.where(weight, advantage, np.float32(np.nan))
        np.testing.assert_array_equal(losses.normalise(advantage, weight), losses.normalise(junk, weight))
        assert not np.any(losses.normalise(junk, weight)[~weight])

    def test_equal_advantages_become_zero(self):
        assert not np.any(losses.normalise(np.full(4, 3, np.float32), np.ones(4, bool)))


class TestPolicyGradient:
    def test_gradient_to_logits_is_advantage_times_pi_minus_onehot(self):
        logits, advantage = normal(0, (6, 3)), normal(1, (6,))
        action, weight = np.arange(6) % 3, np.ones(6, bool)

        def loss(x):
            return losses.policy_gradient_loss(losses.Categorical(x).log_prob(action), advantage, weight, "sum")

        expected = advantage[:, None] * (np.asarray(jax.nn.softmax(logits)) - np.eye(3)[action])
        close(jax.grad(loss)(logits), expected)

    @pytest.mark.filterwarnings("ignore:Rlax softmax")
    def test_agrees_with_rlax(self):
        logits, advantage, weight = normal(0, (6, 3)), normal(1, (6,)), (np.arange(6) > 1).astype(np.float32)
        action = np.arange(6) % 3
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            expected = rlax.policy_gradient_loss(logits, action, advantage, weight) * 6 / 4
        close(losses.policy_gradient_loss(losses.Categorical(logits).log_prob(action), advantage, weight), expected)

    def test_advantage_carries_no_gradient(self):
        log_prob, advantage, weight = normal(0), normal(1), np.ones(SHAPE, bool)
        assert not np.any(jax.grad(losses.policy_gradient_loss, argnums=1)(log_prob, advantage, weight))
        surrogate = jax.grad(lambda *a: losses.clipped_surrogate(*a, weight, clip=0.2).loss, argnums=(1, 2))
        assert not any(np.any(g) for g in surrogate(log_prob, log_prob, advantage))


class TestClippedSurrogate:
    @pytest.mark.parametrize(
        ("ratio", "advantage", "loss", "slope"),
        [
            (1.0, 2.0, -2.0, -2.0),
            (1.5, 2.0, -2.4, 0.0),  # beyond the limit in the good direction: nothing left to gain
            (0.5, 2.0, -1.0, -1.0),  # in the bad direction the gradient stays
            (0.5, -2.0, 1.6, 0.0),
            (1.5, -2.0, 3.0, 3.0),
        ],
    )
    def test_equation_7_by_hand(self, ratio, advantage, loss, slope):
        arrays = [np.float32([x]) for x in (np.log(ratio), 0.0, advantage)]
        value, gradient = jax.value_and_grad(lambda *a: losses.clipped_surrogate(*a, clip=0.2).loss)(
            *arrays, np.ones(1, bool)
        )
        close([value, gradient[0]], [loss, slope])

    def test_at_ratio_one_the_gradient_is_the_policy_gradient(self):
        log_prob, advantage, weight = normal(0), normal(1), normal(2) > -1
        surrogate = jax.grad(lambda x: losses.clipped_surrogate(x, log_prob, advantage, weight, clip=0.2).loss)
        close(surrogate(log_prob), jax.grad(losses.policy_gradient_loss)(log_prob, advantage, weight))

    def test_agrees_with_rlax(self):
        ratio, advantage = np.exp(normal(0, (20,)) / 3), normal(1, (20,))
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            expected = rlax.clipped_surrogate_pg_loss(ratio, advantage, 0.2)
        result = clipped_surrogate(np.log(ratio), np.zeros_like(ratio), advantage, np.ones(20, bool), clip=0.2)
        close(result.loss, expected)

    def test_signs_of_progress(self):
        log_ratio = np.log(np.float32([1.0, 1.1, 1.3, 0.7, 5.0]))
        weight = np.array([True, True, True, True, False])
        zero = np.zeros(5, np.float32)
        result = clipped_surrogate(log_ratio, zero, zero, weight, clip=0.2, reduction="sum")
        close(result.clip_frac, 0.5)
        close(result.approx_kl, np.mean([np.exp(x) - 1 - x for x in log_ratio[:4]]))
        same = clipped_surrogate(log_ratio, log_ratio, zero, weight, clip=0.2)
        assert same.approx_kl == same.clip_frac == 0

    def test_the_sample_estimate_averages_to_the_exact_kl(self):
        acting, learning = losses.Categorical(normal(0, (3,))), losses.Categorical(normal(1, (3,)))
        log_p, log_q = jax.nn.log_softmax(acting.logits), jax.nn.log_softmax(learning.logits)
        close(jnp.sum(jnp.exp(log_p) * losses.kl_from_log_ratio(log_q - log_p)), acting.kl(learning))

    def test_the_sample_estimate_is_never_negative(self):
        x = np.linspace(-5, 5, 1001, dtype=np.float32)
        assert np.min(losses.kl_from_log_ratio(x)) >= 0


class TestValueAndEntropy:
    def test_plain_gradient_is_the_error(self):
        value, target, weight = normal(0), normal(1), normal(2) > 0
        loss = functools.partial(losses.value_loss, reduction="sum")
        close(jax.grad(loss)(value, target, weight), np.where(weight, value - target, 0))
        close(loss(value, target, weight), 0.5 * np.sum(np.square(value - target)[weight]))
        assert not np.any(jax.grad(loss, argnums=1)(value, target, weight))

    @pytest.mark.parametrize(
        ("value", "loss", "slope"),
        [
            (0.4, 0.5 * 0.6**2, -0.6),  # within 0.5 of the old value 0: plain
            (0.8, 0.5 * 0.5**2, 0.0),  # moved far towards the target 1: held back
            (-0.8, 0.5 * 1.8**2, -1.8),  # moved far away from it: the plain loss is the worse one
        ],
    )
    def test_clipped_takes_the_worse(self, value, loss, slope):
        arrays = [np.float32([x]) for x in (value, 1.0)]
        result = jax.value_and_grad(
            lambda *a: losses.value_loss(*a, np.ones(1, bool), old_value=np.zeros(1, np.float32), clip=0.5)
        )(*arrays)
        close([result[0], result[1][0]], [loss, slope])

    def test_clip_needs_the_old_value(self):
        one = np.ones(1, np.float32)
        with pytest.raises(ValueError, match="belong together"):
            losses.value_loss(one, one, one, clip=0.5)

    def test_uniform_entropy(self):
        entropy = losses.Categorical(np.zeros((*SHAPE, 6), np.float32)).entropy()
        close(losses.entropy_loss(entropy, np.ones(SHAPE, bool)), -np.log(6))
        close(losses.entropy_loss(entropy, np.ones(SHAPE, bool), "sum"), -20 * np.log(6))

    def test_explained_variance(self):
        value, target, weight = normal(0), normal(1), normal(2) > 0
        close(losses.explained_variance(target, target, weight), 1)
        close(losses.explained_variance(value * 0 + 5, target, weight), 0, atol=1e-5)
        assert np.isnan(losses.explained_variance(value, target * 0, weight))


class TestGradients:
    def test_finite_differences(self):
        with jax.enable_x64(True):
            parts = [p.astype(np.float64) if p.dtype == np.float32 else p for p in batch(3)]
            _, gradients = grad_whole(*parts)
            rng = np.random.default_rng(0)
            for argument, gradient in enumerate(gradients):
                direction = rng.normal(size=parts[argument].shape)
                shifted = [
                    whole_loss(*parts[:argument], parts[argument] + s * 1e-5 * direction, *parts[argument + 1 :])
                    for s in (1, -1)
                ]
                close((shifted[0] - shifted[1]) / 2e-5, np.sum(gradient * direction), rtol=1e-5)

    def test_jit_changes_nothing(self):
        with jax.disable_jit():
            plain = whole_loss(*batch(1))
        close(plain, whole_loss(*batch(1)))


class TestFromTrajectoryToGradient:
    """Reset rows from the trajectory to the parameters: the way a learner uses all parts."""

    @pytest.mark.parametrize("junk", [np.nan, 1e30])
    def test_junk_in_reset_rows_moves_nothing(self, junk):
        logits, action = normal(0, (7, 3, 2)), np.zeros((7, 3), np.int32)

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def loss(logits, value, columns):
            policy = losses.Categorical(logits)
            log_prob = policy.log_prob(action)
            flags = columns.terminated, columns.truncated, columns.valid
            v = losses.vtrace(columns.reward, value, *flags, log_prob - columns.log_ratio, discount=0.9)
            advantage = losses.normalise(v.advantage, columns.valid)
            actor = losses.policy_gradient_loss(log_prob, advantage, columns.valid, "sum")
            return actor + losses.value_loss(value[:-1], v.target, columns.valid, reduction="sum")

        columns = trajectories.make(2)
        spoiled = trajectories.spoil(columns, junk)
        before, gradients = loss(logits, columns.value, columns)
        after, spoiled_gradients = loss(logits, columns.value, spoiled)
        assert before == after
        for gradient, other in zip(gradients, spoiled_gradients, strict=True):
            np.testing.assert_array_equal(gradient, other)
        assert not np.any(gradients[0][~columns.valid])
        assert not np.any(gradients[1][:-1][~columns.valid])
        assert not np.any(gradients[1][-1])


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: losses.policy_gradient_loss(a, b, a),
        lambda a, b: losses.clipped_surrogate(a, b, a, a, clip=0.2),
        lambda a, b: losses.value_loss(a, b, a),
        lambda a, b: losses.value_loss(a, a, a, old_value=b, clip=0.2),
        lambda a, b: losses.entropy_loss(a, b),
        lambda a, b: losses.explained_variance(a, a, b),
        lambda a, b: losses.normalise(a, b),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call):
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=r"\[5, 4\].*\[4\].*one shape") as caught:
        call(np.ones(SHAPE, np.float32), np.ones(4, np.float32))
    assert "\n" not in str(caught.value)
