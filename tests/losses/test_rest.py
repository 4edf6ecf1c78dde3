# SPDX-License-Identifier: Apache-2.0
"""Rows in which environments rest until the batch is over change no target, advantage or gradient of any other row."""

import numpy as np
import pytest

from agents.made import DISCRETE, MASKED, loss_and_gradient, make_agent, make_trajectory, network_for
from shoal.losses.returns import gae, lambda_returns, n_step_returns, vtrace
from shoal.networks.recurrent import Gru
from shoal.trees import tree_map

END, LENGTH = 4, 11
"""the row that ends the episode, and the rows of the batch"""


def at_rest(trajectory, *, truncated, rubbish=0.0):
    """The trajectory with an end in row END of every environment, and nothing but rest after it."""
    rest = np.arange(LENGTH) > END
    ended = np.zeros((LENGTH, trajectory.reward.shape[1]), bool)
    ended[END] = True
    never = np.zeros_like(ended)

    def resting(rows, value):
        rows = rows.copy()
        rows[rest] = value
        return rows

    def repeated(leaf):
        return np.concatenate([leaf[: END + 2], leaf[END + 1 : END + 2].repeat(LENGTH - END - 1, 0)])

    return trajectory._replace(
        obs=tree_map(repeated, trajectory.obs),
        reward=resting(trajectory.reward, rubbish),
        log_prob=resting(trajectory.log_prob, rubbish),
        terminated=never if truncated else ended,
        truncated=ended if truncated else never,
        valid=np.repeat(~rest[:, None], ended.shape[1], 1),
    )  # fmt: skip


def cut(trajectory):
    """Its first rows only, up to and with the end."""
    rows = slice(END + 1)
    fields = {
        name: getattr(trajectory, name)[rows]
        for name in ("action", "reward", "terminated", "truncated", "valid", "log_prob", "episode_return",
                     "episode_length", "discounted_return")
    }  # fmt: skip
    return trajectory._replace(obs=tree_map(lambda leaf: leaf[: END + 2], trajectory.obs), **fields)


@pytest.mark.parametrize("truncated", [False, True])
def test_targets_are_those_of_the_rows_before_the_rest(truncated):
    rng = np.random.default_rng(0)
    agent = make_agent("a2c", DISCRETE)
    rested = at_rest(make_trajectory(agent, DISCRETE, agent.init(0), steps=LENGTH), truncated=truncated, rubbish=np.nan)
    value = rng.normal(size=(LENGTH + 1, 4)).astype(np.float32)
    short = cut(rested)

    def targets(trajectory):
        columns = (
            trajectory.reward, value[: len(trajectory.reward) + 1], trajectory.terminated, trajectory.truncated,
            trajectory.valid,
        )  # fmt: skip
        settings = {"discount": 0.9}
        return (
            *gae(*columns, **settings, trace_decay=0.8),
            lambda_returns(*columns, **settings, trace_decay=0.8),
            n_step_returns(*columns, **settings, steps=3),
            *vtrace(*columns, trajectory.log_prob, **settings),
        )

    for whole, part in zip(targets(rested), targets(short), strict=True):
        np.testing.assert_allclose(whole[: END + 1], part, rtol=1e-6)
        assert np.isfinite(whole).all()


@pytest.mark.parametrize(
    ("architecture", "spec", "network"), [("a2c", MASKED, None), ("ppo", DISCRETE, Gru), ("impala", DISCRETE, None)]
)
def test_gradients_are_those_of_the_rows_before_the_rest(architecture, spec, network):
    agent = make_agent(architecture, spec, network or network_for(spec))
    params = agent.init(0)
    rested, other = (
        at_rest(make_trajectory(agent, spec, params, seed=seed, steps=LENGTH), truncated=True) for seed in (0, 1)
    )
    whole, _, gradient = loss_and_gradient(agent, params, rested)
    part, _, expected = loss_and_gradient(agent, params, cut(rested))
    np.testing.assert_allclose(whole, part, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(loss_and_gradient(agent, params, cut(other))[2], gradient, rtol=1e-2)
