# SPDX-License-Identifier: Apache-2.0
"""Instruments: norms by layer, and noise estimates on gradients whose true mean and variance are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.made import DISCRETE, make_agent, make_trajectory
from shoal.architectures import registry
from shoal.learners.instruments import gradient_noise, noise_scale, watch_layers
from shoal.losses.across import across

NORMS = ("grad_norm", "step_norm", "param_norm", "distance")
LAYERS = {"first": (0, 4), "second": (4, 10)}


def test_squares_of_layers_norms_add_up_to_those_of_the_whole():
    params, grad, change, initial = jax.random.normal(jax.random.key(0), (4, 10))
    found = watch_layers(LAYERS, initial)(params, grad, change)
    wholes = (grad, change, params + change, params + change - initial)
    for name, whole in zip(NORMS, wholes, strict=True):
        parts = [found[f"layer/{layer}/{name}"] for layer in LAYERS]
        np.testing.assert_allclose(np.linalg.norm(parts), np.linalg.norm(whole), rtol=1e-5)


def test_layers_cover_the_params_of_a_network():
    agent = make_agent("a2c", DISCRETE)
    bounds = list(agent.layers.values())
    assert [first for first, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == len(agent.init(0))


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_a_run_writes_norms_of_layers_only_if_asked(architecture):
    fields = {"envs_per_actor": 4, "unroll_length": 7, "env_steps": 1000}
    agent = make_agent(architecture, DISCRETE, **fields)
    module = registry.load(architecture)
    for layer_norms in (True, False):
        learner = module.make_learner(module.Config(**fields, layer_norms=layer_norms), agent)
        state = learner.init(0)
        state, metrics = learner.update(state, [make_trajectory(agent, DISCRETE, agent.init(0))])
        watched = {name for name in metrics if name.startswith("layer/")}
        assert watched == {f"layer/{layer}/{name}" for layer in agent.layers for name in NORMS if layer_norms}
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize(("architecture", "fields"), [("a2c", {}), ("ppo", {"minibatches": 1, "epochs": 2})])
def test_measuring_noise_changes_nothing_else(architecture, fields):
    fields = {"envs_per_actor": 4, "unroll_length": 7, "env_steps": 1000, "learners": 2, **fields}
    agent = make_agent(architecture, DISCRETE, **fields)
    module, found = registry.load(architecture), {}
    for settings in (
        {},
        {"gradient_noise": True, "learner_devices": 1},
        {"gradient_noise": True, "learner_devices": 2},
    ):
        learner = module.make_learner(module.Config(**{"learner_devices": 1} | fields | settings), agent)
        state, metrics = learner.update(learner.init(0), [make_trajectory(agent, DISCRETE, agent.init(0))])
        found[str(settings)] = np.asarray(state.params), metrics
    (plain, none), (apart, ours), (spread, theirs) = found.values()
    np.testing.assert_allclose(apart, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread, plain, rtol=1e-5, atol=1e-6)
    assert not any(name.startswith("noise/") for name in none)
    for name in ("noise/trace", "noise/signal", "noise/diversity"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)


def noise_of(grads, rows):
    """Estimates from the mean gradients [n, P] of shares of so many rows."""
    rows = jnp.asarray(rows, jnp.float32)

    def one(grad, own):
        with across("share"):
            return gradient_noise(grad * own / jnp.sum(rows), own)

    return jax.tree.map(lambda x: x[0], jax.vmap(one, axis_name="share")(grads, rows))


def drawn_grads(seed, parts, rows, trace, true):
    """Mean gradients [parts, P] of so many rows each, with tr(Sigma) = trace around the true gradient."""
    noise = np.random.default_rng(seed).normal(size=(parts, true.size))
    return np.float32(true + noise * np.sqrt(trace / true.size / np.asarray(rows)[:, None]))


@pytest.mark.parametrize("rows", [(8, 8, 8, 8), (2, 5, 11, 14)])
def test_noise_estimates_are_unbiased(rows):
    true, trace = np.linspace(-1, 1, 20), 100.0
    grads = np.stack([drawn_grads(seed, 4, rows, trace, true) for seed in range(3000)])
    draws = jax.jit(jax.vmap(lambda parts: noise_of(parts, rows)))(grads)
    traces, signals = (np.asarray(draws[f"noise/{name}"]) for name in ("trace", "signal"))
    scale = trace / np.sum(true**2)
    assert traces.mean() == pytest.approx(trace, rel=0.03)
    assert signals.mean() == pytest.approx(np.sum(true**2), rel=0.03)
    assert noise_scale(traces, signals).scale == pytest.approx(scale, rel=0.05)
    assert abs(np.mean(traces / signals) / scale - 1) > 0.05  # why means come before the ratio


def test_diversity_and_noise_scale_are_linked():
    parts, rows = 5, 7
    grads = jnp.asarray(np.random.default_rng(0).normal(0.4, 1.0, (parts, 30)), jnp.float32)
    found = noise_of(grads, [rows] * parts)
    scale = float(found["noise/trace"] / found["noise/signal"])
    linked = (1 + scale / rows) / (1 + scale / (parts * rows))
    assert parts * float(found["noise/diversity"]) == pytest.approx(linked, rel=1e-4)


def test_equal_gradients_are_all_signal_and_their_diversity_is_one_over_n():
    grads = jnp.ones((4, 3))
    found = noise_of(grads, [2] * 4)
    np.testing.assert_allclose([found["noise/trace"], found["noise/signal"], found["noise/diversity"]], [0, 3, 0.25])


def test_newer_estimates_weigh_more_and_no_signal_is_said():
    assert noise_scale([1.0, 1.0, 9.0], [1.0, 1.0, 1.0], decay=0.5).scale > noise_scale([1, 1, 9.0], [1, 1, 1.0]).scale
    assert noise_scale([1.0], [-0.1]).scale == float("inf")
    doubled = noise_scale([4.0, 8.0], [4.0, 4.0])
    assert doubled.scale == noise_scale([1.0, 2.0], [1.0, 1.0]).scale
