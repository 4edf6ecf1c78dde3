# SPDX-License-Identifier: Apache-2.0
"""Learners that share params: their updates beside the compiled ones, and merging beside stepping."""

import numpy as np
import pytest

from agents.made import DISCRETE, make_agent, make_trajectory
from shoal.architectures import registry
from shoal.errors import NonFiniteError
from shoal.learners.host_rules import Adam, Merge, Momentum, RmsProp, Sgd, pushable
from shoal.networks.recurrent import Gru

SMALL = {"envs_per_actor": 4, "unroll_length": 7, "env_steps": 1000}


def made(architecture, network=None, **fields):
    """(learner, a trajectory of its first params)."""
    module = registry.load(architecture)
    fields = SMALL | ({"minibatches": 2} if architecture == "ppo" else {}) | fields
    agent = make_agent(architecture, DISCRETE, network, **fields)
    return module.make_learner(module.Config(**fields), agent), make_trajectory(agent, DISCRETE, agent.init(0))


@pytest.mark.parametrize(
    ("rule", "network"),
    [
        ({"optimiser": "sgd"}, Gru),
        ({"optimiser": "momentum"}, None),
        ({"optimiser": "rmsprop", "optimiser_centred": True, "epsilon_in_root": True}, None),
        ({"optimiser": "adam", "optimiser_epsilon": 1e-12}, None),
    ],
)
@pytest.mark.parametrize("architecture", ["a2c", pytest.param("ppo", marks=pytest.mark.slow)])
def test_an_update_is_that_of_the_compiled_learner(architecture, rule, network):
    together, trajectory = made(architecture, network, **rule)
    apart, _ = made(architecture, network, optimisation="async", **rule)
    states = [learner.init(0) for learner in (together, apart)]
    for _ in range(3):
        states = [
            learner.update(state, [trajectory])[0] for learner, state in zip((together, apart), states, strict=True)
        ]
    np.testing.assert_allclose(states[1].params, states[0].params, rtol=1e-4, atol=2e-6)
    assert states[1].updates == states[0].updates
    assert states[1].env_steps == states[0].env_steps
    assert not np.allclose(states[1].params, apart.init(0).params, atol=1e-4)


def test_no_two_draws_cut_a_batch_alike():
    learner, trajectory = made("ppo", optimisation="async")
    params = learner.init(0).params
    first, again, other = (
        [gradient(params)[0] for gradient in learner.gradients(params, [trajectory], draw)] for draw in (3, 3, 4)
    )
    assert len(first) == 8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("rule", [Sgd(), Momentum(0.8), RmsProp(0.9), RmsProp(0.9, centred=True), Adam()])
def test_merging_is_stepping_up_to_rounding(rule):
    """A worker's three steps, merged into what others have meanwhile not touched, are three steps there."""
    rng = np.random.default_rng(0)
    params, moments = rng.normal(size=9).astype(np.float32), rng.random((rule.moments, 9)).astype(np.float32)
    shared = params.copy(), moments.copy()
    begun, gathered = params.copy(), np.zeros_like(moments)
    for grad in rng.normal(size=(3, 9)).astype(np.float32):
        rule(params, moments, grad, 0.1)
        rule.remember(gathered, grad)
    Merge(rule.decays, 3)(*shared, np.concatenate([[params - begun], gathered]), 1.0)
    np.testing.assert_allclose(shared[0], params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shared[1], moments, rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_is_never_pushed():
    with pytest.raises(NonFiniteError, match="update 7: a worker's gradient is not finite") as refused:
        pushable(np.array([1.0, np.inf], np.float32), {}, 0.5, 7)
    assert "\n" not in str(refused.value)
    grad, metrics = pushable(np.array([3.0, 4.0], np.float32), {"loss/total": 1.0}, 0.5, 7)
    np.testing.assert_allclose(grad, [0.3, 0.4], rtol=1e-6)
    assert metrics == {"loss/total": 1.0, "grad_norm": 5.0}
