# SPDX-License-Identifier: Apache-2.0
"""Gradients in shares: who makes them and where they are summed is the architecture's. The rule is NumPy's."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.agents.lessons import CriticLesson, PolicyLesson, Share, rewards_to_go
from shoal.learners.base import Learner, LearnerState
from shoal.learners.host_rules import HostRule, corrected, pushable
from shoal.learners.schedule import Schedule
from shoal.learners.single import acting, learnable
from shoal.types import Array, Trajectory

Part = Literal["policy", "critic"]
"""whose gradient"""


def make_sharing(agent: Agent, rule: HostRule, schedules: Mapping[str, Schedule], config: Any) -> Learner:
    """A learner whose `share` is a worker's part of a gradient, and whose `pool` sums shares, divides by all their
    rows, clips and steps.

    Policy and critic have moments of their own, [2 k, P] or [k, P] without critic. Without critic the last of the
    params is the baseline: the mean of rewards to go over the batch before.

    Check: shares of a batch cut in any way pool to the params that the whole batch gives.
    """
    has_critic = "critic" in schedules
    compiled = jax.jit(jax.value_and_grad(agent.loss, has_aux=True))

    def init(seed: int) -> LearnerState:
        params = np.asarray(agent.init(seed), np.float32)
        moments = np.zeros((len(schedules) * rule.moments, params.size), np.float32)
        return LearnerState(jnp.asarray(params), moments, updates=0, env_steps=0, version=0)

    def share(params: Array, lesson: PolicyLesson | CriticLesson) -> Share:
        trajectory = lesson.trajectory
        (_, losses), grad = jax.device_get(compiled(params, lesson._replace(trajectory=learnable(trajectory))))
        rows, returns = np.asarray(trajectory.valid), getattr(lesson, "returns", ())
        total = 0.0 if isinstance(returns, tuple) else float(np.sum(returns[rows], dtype=np.float64))
        return Share(grad, int(np.count_nonzero(rows)), total, {name: float(x) for name, x in losses.items()})

    def pool(state: LearnerState, shares: list[Share], part: Part = "policy") -> tuple[LearnerState, dict[str, float]]:
        params, moments = np.array(state.params), np.array(state.optimiser)
        before = params.copy()
        rows = max(sum(one.rows for one in shares), 1)
        grad = np.sum([one.grad for one in shares], axis=0) / np.float32(rows)
        losses = {name: sum(one.losses[name] for one in shares) / rows for name in shares[0].losses}
        grad, metrics = pushable(grad, losses, config.max_grad_norm, state.updates)
        rate = schedules[part](state.env_steps)
        steps = state.updates // len(schedules) + 1
        rule(params, moments_of(rule, moments, part), grad, corrected(rule, rate, steps))
        metrics["step_norm"] = float(np.linalg.norm(params - before))
        if not has_critic:
            params[-1] = sum(one.returns for one in shares) / rows
        if part == "policy":
            metrics |= {"learning_rate": rate, "sample_reuse": 1.0}
            state = state._replace(env_steps=state.env_steps + rows)
        counted = {"updates": state.updates + 1, "version": state.version + 1}
        return state._replace(params=params, optimiser=moments, **counted), metrics

    def update(state: LearnerState, batch: list[Trajectory]) -> tuple[LearnerState, dict[str, float]]:
        if has_critic:
            state, fitted = pool(state, [share(acting(state), CriticLesson(one)) for one in batch], "critic")
            state, metrics = pool(state, [share(acting(state), PolicyLesson(one, ())) for one in batch])
            return state, {**metrics, "loss/value": fitted["loss/value"]}
        return pool(state, [share(acting(state), PolicyLesson(one, rewards_to_go(config, one))) for one in batch])

    return Learner(init, update, acting, share=share, pool=pool)


def moments_of(rule: HostRule, moments: np.ndarray, part: Part) -> np.ndarray:
    """The rows of moments [.., P] that belong to a part: a view."""
    first = rule.moments if part == "critic" else 0
    return moments[first : first + rule.moments]
