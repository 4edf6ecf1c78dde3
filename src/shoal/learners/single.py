# SPDX-License-Identifier: Apache-2.0
"""One gradient step on all the trajectories of a batch: A2C, IMPALA."""

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.learners.base import Learner, LearnerState, join
from shoal.learners.instruments import gradient_noise
from shoal.learners.optimiser import Optimiser, refuse_non_finite
from shoal.learners.schedule import Schedule
from shoal.learners.spread import ALONE, BATCH, SAME, Spread
from shoal.losses.across import total
from shoal.types import Array, Trajectory


def make_single(agent: Agent, optimiser: Optimiser, schedule: Schedule, spread: Spread = ALONE) -> Learner:
    """A learner whose update is one compiled call: prepare, loss, gradient (summed over devices), clip, step.

    Check: spread over any number of learners and devices it gives the params that one learner gives.
    """

    def gradient_of(params, batch):
        def objective(p):
            return agent.loss(p, agent.prepare(p, batch))

        (loss, metrics), grad = jax.value_and_grad(objective, has_aux=True)(params)
        noise = gradient_noise(grad, jnp.sum(batch.valid)) if spread.noise else {}
        return total(grad), {"loss/total": loss, **metrics, **noise}

    def gradient_step(params, moments, batch, learning_rate):
        grad, metrics = gradient_of(params, batch)
        params, moments, norms = optimiser.step(params, moments, grad, learning_rate)
        return agent.observe(params, batch), moments, metrics | norms

    compiled_gradient = spread.compiled(gradient_of, (SAME, BATCH), SAME)
    compiled_step = spread.compiled(gradient_step, (SAME, SAME, BATCH, SAME), SAME)

    def init(seed: int) -> LearnerState:
        params = jnp.asarray(agent.init(seed))
        return LearnerState(params, optimiser.init(params), updates=0, env_steps=0, version=0)

    def update(state: LearnerState, batch: list[Trajectory]) -> tuple[LearnerState, dict[str, float]]:
        rate = np.float32(schedule(state.env_steps))
        placed = spread.place(learnable(join(batch)))
        params, moments, metrics = compiled_step(state.params, state.optimiser, placed, rate)
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        metrics = refuse_non_finite(metrics, state.updates) | {"learning_rate": float(rate), "sample_reuse": 1.0}
        env_steps = state.env_steps + spread.env_steps_in(batch)
        return LearnerState(params, moments, state.updates + 1, env_steps, state.version + 1), metrics

    def gradient(params: Array, batch: list[Trajectory]) -> tuple[np.ndarray, dict[str, float]]:
        grad, metrics = jax.device_get(compiled_gradient(params, spread.place(learnable(join(batch)))))
        return grad, {name: float(value) for name, value in metrics.items()}

    return Learner(init, update, acting, gradient, spread.devices)


def acting(state: LearnerState) -> np.ndarray:
    """A host copy [P] of the params."""
    return np.array(state.params)


def learnable(trajectory: Trajectory) -> Trajectory:
    """The trajectory without what no loss reads (versions, episode statistics), so that it isn't sent to the device."""
    return trajectory._replace(version=(), episode_return=(), episode_length=())
