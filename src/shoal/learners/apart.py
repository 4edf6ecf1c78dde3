# SPDX-License-Identifier: Apache-2.0
"""Learners that train on batches of their own and share params and moments: gradients in JAX, the rule in NumPy.

An update of one learner is a sequence of gradients, each at the params that the one before led to: a single one (A2C),
or one for each minibatch of each pass (PPO). What happens between two of them is the architecture's.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.learners.base import Learner, LearnerState, env_steps_in, join
from shoal.learners.host_rules import HostRule, corrected, pushable
from shoal.learners.schedule import Schedule
from shoal.learners.single import acting, learnable
from shoal.types import Array, Trajectory


def make_apart(
    agent: Agent, rule: HostRule, schedule: Schedule, *, max_grad_norm: float, parts: Callable | None = None
) -> Learner:
    """A learner whose `gradients` are what an update takes one after another, and whose `update` takes them alone.

    Args:
      parts: (rows, draw) -> row numbers of each gradient's part of the batch [K, n]; None: all of it, once.

    Check: one learner that exchanges with a shared vector makes the params that `update` makes, bit for bit.
    """
    prepare = jax.jit(agent.prepare)
    on_all = jax.jit(jax.value_and_grad(agent.loss, has_aux=True))

    @jax.jit
    def on_rows(params: Array, samples: Any, rows: Array) -> Any:
        return jax.value_and_grad(agent.loss, has_aux=True)(params, jax.tree.map(lambda x: x[rows], samples))

    def told(found: Any) -> tuple[np.ndarray, dict[str, float]]:
        (loss, metrics), grad = jax.device_get(found)
        return grad, {name: float(value) for name, value in {"loss/total": loss, **metrics}.items()}

    def init(seed: int) -> LearnerState:
        params = np.asarray(agent.init(seed), np.float32)
        moments = np.zeros((rule.moments, params.size), np.float32)
        return LearnerState(jnp.asarray(params), moments, updates=0, env_steps=0, version=0)

    def gradients(params: Array, batch: list[Trajectory], draw: int) -> Iterator[Callable]:
        trajectory = learnable(join(batch))
        samples = prepare(params, trajectory)
        if parts is None:
            yield lambda at: told(on_all(at, samples))
            return
        rows = trajectory.reward.shape[1] if agent.recurrent else trajectory.reward.size
        for part in parts(rows, draw):
            yield partial(lambda part, at: told(on_rows(at, samples, part)), part)

    def update(state: LearnerState, batch: list[Trajectory]) -> tuple[LearnerState, dict[str, float]]:
        params, moments = np.array(state.params), np.array(state.optimiser)
        rate, updates, metrics = schedule(state.env_steps), state.updates, {}
        for gradient in gradients(params, batch, updates):
            found, metrics = gradient(params)
            grad, metrics = pushable(found, metrics, max_grad_norm, updates)
            updates += 1
            rule(params, moments, grad, corrected(rule, rate, updates))
        steps = state.env_steps + env_steps_in(batch)
        return LearnerState(params, moments, updates, steps, state.version + updates - state.updates), metrics

    return Learner(init, update, acting, gradients=gradients)
