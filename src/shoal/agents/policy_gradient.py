# SPDX-License-Identifier: Apache-2.0
"""What a policy gradient minimises: policy and critic apart, each as a sum over valid rows."""

from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.lessons import CriticLesson, PolicyLesson
from shoal.agents.model import Model
from shoal.agents.objectives import Objective, counted_actions, estimate_advantage, flat, rewards_learnt
from shoal.losses import policy_gradient as pg
from shoal.types import Array


def lessons(config: Any) -> Objective:
    """REINFORCE with a baseline (Williams 1992), or with a critic's generalised advantages, by what the lesson holds.

    Where a policy's lesson brings returns, the baseline is the last of the params, [network | baseline]: fixed for an
    iteration, and the same for all who have these params.

    Check: over shares of a batch, sums of losses and gradients are those of the whole batch.
    """

    def loss(model: Model, params: Array, lesson: PolicyLesson | CriticLesson) -> tuple[Array, dict[str, Array]]:
        batch = lesson.trajectory
        distribution, value = model.unroll(params, batch.obs, batch.valid, batch.memory)
        reward, weight = rewards_learnt(config, model, params, batch.reward), flat(batch.valid)
        if isinstance(lesson, CriticLesson):
            target = flat(estimate_advantage(config, batch, reward, value).target)
            error = pg.value_loss(flat(value[:-1]), target, weight, reduction="sum")
            return config.value_cost * error, {"loss/value": error}
        if isinstance(lesson.returns, tuple):
            advantage = estimate_advantage(config, batch, reward, value).advantage
        else:
            advantage = lesson.returns - jax.lax.stop_gradient(params[-1])
        log_prob = distribution.log_prob(counted_actions(batch.action, batch.valid))
        policy = pg.policy_gradient_loss(log_prob, flat(advantage), weight, reduction="sum")
        entropy = pg.entropy_loss(jnp.broadcast_to(distribution.entropy(), weight.shape), weight, reduction="sum")
        return policy + config.entropy_cost * entropy, {"loss/policy": policy, "loss/entropy": -entropy}

    return Objective(lambda _, __, lesson: lesson, loss)
