# SPDX-License-Identifier: Apache-2.0
"""Lessons: sums over rows that add up over any cut, and are those of the actor-critic where they should be."""

import jax
import numpy as np
import pytest

from agents.made import BOX, DISCRETE, halves, loss_and_gradient, make_agent, make_trajectory
from shoal.agents.lessons import CriticLesson, PolicyLesson, rewards_to_go
from shoal.architectures import pg
from shoal.learners.single import learnable

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
FIELDS = {"entropy_cost": 0.02, "value_cost": 0.5, "trace_decay": 0.9}


def case(step, spec=DISCRETE, seed=0):
    """(config, agent, params away from their start, a trajectory made under these)."""
    config = pg.Config(step=step, **FIELDS)
    agent = make_agent("pg", spec, step=step, **FIELDS)
    params = agent.init(seed)
    params = params + np.random.default_rng(seed).normal(scale=0.2, size=params.shape).astype(np.float32)
    return config, agent, params, make_trajectory(agent, spec, params, seed)


def gradient(agent, params, lesson):
    """(loss, gradient) of a lesson."""
    lesson = lesson._replace(trajectory=learnable(lesson.trajectory))
    (loss, _), grad = jax.jit(jax.value_and_grad(agent.loss, has_aux=True))(params, lesson)
    return float(loss), np.asarray(grad)


@pytest.mark.parametrize(
    ("part", "spec"), [("plain", BOX), ("policy", DISCRETE), ("critic", DISCRETE)], ids=lambda x: getattr(x, "id", x)
)
def test_shares_add_up_to_the_whole(part, spec):
    config, agent, params, whole = case("a" if part == "plain" else "d", spec)

    def lesson(trajectory):
        if part == "critic":
            return CriticLesson(trajectory)
        return PolicyLesson(trajectory, rewards_to_go(config, trajectory) if part == "plain" else ())

    loss, grad = gradient(agent, params, lesson(whole))
    shares = [gradient(agent, params, lesson(one)) for one in halves(whole)]
    assert sum(one for one, _ in shares) == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(sum(one for _, one in shares), grad, **CLOSE)
    assert np.abs(grad).max() > 1e-2


def test_policy_and_critic_together_are_the_actor_critic():
    """At the same params, and divided by the number of rows."""
    _, agent, params, trajectory = case("d")
    _, _, expected = loss_and_gradient(make_agent("a2c", DISCRETE, **FIELDS), params, trajectory)
    parts = [gradient(agent, params, lesson)[1] for lesson in (PolicyLesson(trajectory, ()), CriticLesson(trajectory))]
    np.testing.assert_allclose(sum(parts) / trajectory.valid.sum(), expected, **CLOSE)


def test_the_baseline_moves_no_expectation_and_gets_no_gradient():
    """A policy's score has mean 0, so what is subtracted from all returns changes the gradient by its sum of scores."""
    config, agent, params, trajectory = case("a")
    lesson = PolicyLesson(trajectory, rewards_to_go(config, trajectory))
    _, grad = gradient(agent, params, lesson)
    moved = params.copy()
    moved[-1] += 3
    _, other = gradient(agent, moved, lesson)
    ones = lesson._replace(returns=np.ones_like(lesson.returns) + params[-1])
    config_of_scores = make_agent("pg", DISCRETE, step="a", **(FIELDS | {"entropy_cost": 0.0}))
    _, scores = gradient(config_of_scores, params, ones)
    np.testing.assert_allclose(other - grad, -3 * scores, rtol=1e-3, atol=1e-4)
    assert grad[-1] == 0


def test_reset_rows_count_for_nothing():
    config, agent, params, trajectory = case("a", seed=2)
    unused = ~trajectory.valid
    assert unused.any()
    returns = rewards_to_go(config, trajectory)
    spoilt = trajectory._replace(
        log_prob=np.where(unused, np.float32(np.nan), trajectory.log_prob),
        action=np.where(unused, np.int32(99), trajectory.action),
    )
    _, grad = gradient(agent, params, PolicyLesson(trajectory, returns))
    _, other = gradient(agent, params, PolicyLesson(spoilt, np.where(unused, np.float32(np.nan), returns)))
    np.testing.assert_allclose(other, grad, **CLOSE)
