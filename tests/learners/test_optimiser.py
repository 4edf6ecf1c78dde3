# SPDX-License-Identifier: Apache-2.0
"""One optimiser step: against optax and by hand, clipping, and the refusal of numbers that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import NonFiniteError
from shoal.learners.optimiser import make_optimiser, refuse_non_finite
from shoal.learners.schedule import make_schedule, scaled_rate

RATE = np.float32(0.1)
PARAMS = jnp.array([1.0, -2.0, 0.5])
GRAD = jnp.array([3.0, -4.0, 0.0])


def make(name, **fields):
    settings = {"epsilon": 1e-5, "decay": 0.9, "max_grad_norm": 1e9} | fields
    return make_optimiser(name, **settings)


def run(optimiser, grads, params=PARAMS):
    """Params and metrics after one step for each gradient."""
    moments, metrics = optimiser.init(params), []
    for grad in grads:
        params, moments, found = jax.jit(optimiser.step)(params, moments, grad, RATE)
        metrics.append(found)
    return np.asarray(params), metrics


REFERENCES = {
    "adam": lambda: optax.scale_by_adam(eps=1e-5),
    "rmsprop": lambda: optax.scale_by_rms(decay=0.9, eps=1e-5, eps_in_sqrt=False),
    "momentum": lambda: optax.trace(decay=0.9),
    "sgd": optax.identity,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("max_grad_norm", [0.5, 1e9])
def test_steps_equal_optax(name, max_grad_norm):
    grads = [jnp.asarray(g) for g in np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)]
    found, _ = run(make(name, max_grad_norm=max_grad_norm), grads)
    chain = optax.chain(optax.clip_by_global_norm(max_grad_norm), REFERENCES[name](), optax.scale(-0.1))
    params, moments = PARAMS, chain.init(PARAMS)
    for grad in grads:
        change, moments = chain.update(grad, moments, params)
        params = optax.apply_updates(params, change)
    np.testing.assert_allclose(found, params, rtol=1e-5, atol=1e-6)


def test_rmsprop_adds_epsilon_outside_the_root():
    found, _ = run(make("rmsprop", epsilon=0.5), [GRAD])
    mean_square = 0.1 * np.square(np.asarray(GRAD))
    expected = np.asarray(PARAMS) - 0.1 * np.asarray(GRAD) / (np.sqrt(mean_square) + 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("epsilon_in_root", [False, True])
def test_forms_of_rmsprop_follow_their_recurrence(centred, epsilon_in_root):
    grads = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    optimiser = make("rmsprop", epsilon=0.1, centred=centred, epsilon_in_root=epsilon_in_root)
    found, _ = run(optimiser, [jnp.asarray(g) for g in grads])
    params, square, mean = np.asarray(PARAMS, np.float64), np.zeros(3), np.zeros(3)
    for grad in grads:
        square, mean = 0.9 * square + 0.1 * grad**2, 0.9 * mean + 0.1 * grad
        spread = square - mean**2 * centred
        params -= 0.1 * grad / (np.sqrt(spread + 0.1) if epsilon_in_root else np.sqrt(spread) + 0.1)
    np.testing.assert_allclose(found, params, rtol=1e-5)


def test_where_epsilon_stands_decides_at_impalas_tenth():
    small = [jnp.full(3, 1e-3)]
    inside, outside = (run(make("rmsprop", epsilon=0.1, epsilon_in_root=where), small)[0] for where in (True, False))
    steps = (np.asarray(PARAMS) - outside) / (np.asarray(PARAMS) - inside)
    np.testing.assert_allclose(steps, np.sqrt(10), rtol=0.02)


@given(st.floats(1e-5, 1.0), st.floats(0.1, 100.0), st.sampled_from(["constant", "sqrt", "linear"]))
def test_growing_twice_is_growing_once_by_the_square(rate, growth, rule):
    twice = scaled_rate(scaled_rate(rate, growth, rule), growth, rule)
    np.testing.assert_allclose(twice, scaled_rate(rate, growth * growth, rule), rtol=1e-9)


def test_rules_of_the_learning_rate_for_sixteen_times_the_batch():
    rates = [scaled_rate(0.1, 16.0, rule) for rule in ("constant", "sqrt", "linear")]
    np.testing.assert_allclose(rates, [0.1, 0.4, 1.6])


def test_adam_adds_epsilon_outside_the_root():
    found, _ = run(make("adam", epsilon=0.5), [GRAD])
    # after one step bias correction leaves the gradient itself and its square
    expected = np.asarray(PARAMS) - 0.1 * np.asarray(GRAD) / (np.abs(np.asarray(GRAD)) + 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_with_sgd_the_step_is_the_rate_times_the_gradient():
    _, (metrics,) = run(make("sgd"), [GRAD])
    assert float(metrics["grad_norm"]) == pytest.approx(5)
    assert float(metrics["step_norm"]) == pytest.approx(0.1 * 5)


def test_clipping_scales_long_gradients_and_leaves_short_ones():
    long, (metrics,) = run(make("sgd", max_grad_norm=0.5), [GRAD])
    np.testing.assert_allclose(long, np.asarray(PARAMS) - 0.1 * np.asarray(GRAD) / 10, rtol=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(5)  # before clipping
    assert float(metrics["step_norm"]) == pytest.approx(0.1 * 0.5)
    short, _ = run(make("sgd", max_grad_norm=5.1), [GRAD])
    np.testing.assert_allclose(short, np.asarray(PARAMS) - 0.1 * np.asarray(GRAD), rtol=1e-6)
    still, (metrics,) = run(make("sgd", max_grad_norm=0.5), [jnp.zeros(3)])
    np.testing.assert_array_equal(still, PARAMS)
    assert float(metrics["finite"]) == 1


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(name, bad):
    optimiser = make(name)
    params, moments, _ = optimiser.step(PARAMS, optimiser.init(PARAMS), GRAD, RATE)
    after, moments_after, metrics = optimiser.step(params, moments, GRAD.at[1].set(bad), RATE)
    assert float(metrics["finite"]) == 0
    for old, new in zip(jax.tree.leaves((params, moments)), jax.tree.leaves((after, moments_after)), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_step_that_overflows_changes_nothing():
    optimiser = make("sgd")
    after, _, metrics = optimiser.step(PARAMS, optimiser.init(PARAMS), GRAD, np.float32(3e38))
    assert float(metrics["finite"]) == 0
    np.testing.assert_array_equal(after, PARAMS)


def test_the_refusal_names_what_overflowed():
    fine = {"finite": 1.0, "grad_norm": 2.0, "loss/explained_variance": float("nan")}
    assert refuse_non_finite(dict(fine), 3) == {k: v for k, v in fine.items() if k != "finite"} | {
        "loss/explained_variance": pytest.approx(float("nan"), nan_ok=True)
    }
    with pytest.raises(NonFiniteError) as refused:
        refuse_non_finite(fine | {"finite": 0.0, "loss/value": float("inf")}, 7)
    line = str(refused.value)
    assert line.startswith("update 7: loss/value is not a finite number")
    assert "explained" not in line
    assert "learning_rate" in line
    assert refused.value.exit_code == 5
    assert "\n" not in line


@given(st.floats(1e-6, 1), st.integers(1, 10**7), st.integers(0, 2 * 10**7))
def test_schedule(start, env_steps, at):
    constant, falling = (make_schedule(start, env_steps, anneal=anneal) for anneal in (False, True))
    assert constant(at) == start
    assert falling(0) == start
    assert falling(env_steps / 2) == pytest.approx(start / 2)
    assert falling(env_steps) == 0
    assert 0 <= falling(at) <= start
    assert falling(at) >= falling(at + 1)
