# SPDX-License-Identifier: Apache-2.0
"""Learning by workers that push gradients to a shared vector: the gradient in JAX, the rule in NumPy."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.learners.base import Learner, LearnerState, env_steps_in
from shoal.learners.host_rules import HostRule, corrected, pushable
from shoal.learners.optimiser import Optimiser
from shoal.learners.replayed import make_replayed
from shoal.learners.schedule import Schedule
from shoal.learners.single import acting, make_single
from shoal.types import Array, Trajectory


def make_pushing(
    agent: Agent, rule: HostRule, schedule: Schedule, *, max_grad_norm: float, workers: int | None, tail: Any
) -> Learner:
    """A learner whose `gradient` is what workers push, and whose `update` is what one worker does alone.

    Args:
      workers: rows of moments are each worker's own, [workers, k, N]; None where all share them, [k, N].
      tail: (params, env_steps) -> the params that `update` learns with: what worker 0 adds to them.

    Check: one worker on a shared vector makes the params that `update` makes, bit for bit.
    """
    single = make_single(agent, Optimiser(lambda _: (), _no_step), schedule)
    gradient = single.gradient
    if gradient is None:
        raise AssertionError("a learner of one gradient step has a gradient")

    def init(seed: int) -> LearnerState:
        params = np.asarray(agent.init(seed), np.float32)
        form = (rule.moments, params.size) if workers is None else (workers, rule.moments, params.size)
        return LearnerState(jnp.asarray(params), np.zeros(form, np.float32), updates=0, env_steps=0, version=0)

    def update(state: LearnerState, batch: list[Trajectory]) -> tuple[LearnerState, dict[str, float]]:
        params, moments = np.array(state.params), np.array(state.optimiser)
        grad, metrics = gradient(tail(params, state.env_steps), batch)
        grad, metrics = pushable(grad[: params.size], metrics, max_grad_norm, state.updates)
        rate = corrected(rule, schedule(state.env_steps), state.updates + 1)
        rule(params, moments if workers is None else moments[0], grad, rate)
        steps = state.env_steps + env_steps_in(batch)
        return LearnerState(params, moments, state.updates + 1, steps, state.version + 1), metrics

    return Learner(init, update, acting, gradient)


def make_pushing_replayed(agent: Agent, rule: HostRule, config: Any) -> Learner:
    """A learner whose `replay_gradient` is what workers push. All share the rule's moments [k, N].

    Check: one worker on a shared vector, with every push admitted, is a loop of gradient and rule.
    """
    replayed = make_replayed(agent, Optimiser(lambda _: (), _no_step), float, config)

    def init(seed: int) -> LearnerState:
        params = np.asarray(agent.init(seed), np.float32)
        moments = np.zeros((rule.moments, params.size), np.float32)
        return LearnerState(jnp.asarray(params), moments, updates=0, env_steps=0, version=0)

    return replayed._replace(init=init, learn=None)


def _no_step(params: Array, moments: Any, grad: Array, learning_rate: Array) -> tuple[Array, Any, dict[str, Array]]:
    raise AssertionError("the step is the host's")
