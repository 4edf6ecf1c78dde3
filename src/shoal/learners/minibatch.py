# SPDX-License-Identifier: Apache-2.0
"""Several passes over one batch in shuffled minibatches: PPO."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.learners.base import Learner, LearnerState, join
from shoal.learners.instruments import gradient_noise
from shoal.learners.optimiser import Optimiser, refuse_non_finite
from shoal.learners.schedule import Schedule
from shoal.learners.single import acting, learnable
from shoal.learners.spread import ALONE, BATCH, COLUMNS, ROWS, SAME, Spread
from shoal.losses.across import total
from shoal.seeds import derive
from shoal.types import Trajectory


def make_minibatch(  # noqa: PLR0913 the settings of a learner, most by name
    agent: Agent,
    optimiser: Optimiser,
    schedule: Schedule,
    *,
    epochs: int,
    minibatches: int,
    seed: int,
    spread: Spread = ALONE,
) -> Learner:
    """A learner that prepares a batch once (advantages under the params it arrived at) and then takes
    epochs * minibatches gradient steps on shuffled parts of it: rows, or where memory is carried environments with all
    their rows.

    The order of rows is drawn on the host: a permutation there costs microseconds, where sorting inside the compiled
    update costs more than the gradient. Small networks run all steps in one compiled call; networks over frames are
    slower inside a scan on the CPU (library convolutions ten times), so they make one call per minibatch.

    Several learners shuffle their own shares; a minibatch is the union of theirs of the same number.

    Check: both forms give the same params; with one minibatch any number of learners does.
    """

    def minibatch_step(carry, samples, learning_rate):
        params, moments = carry
        (loss, metrics), grad = jax.value_and_grad(agent.loss, has_aux=True)(params, samples)
        noise = gradient_noise(grad, jnp.sum(samples.weight)) if spread.noise else {}
        params, moments, norms = optimiser.step(params, moments, total(grad), learning_rate)
        return (params, moments), {"loss/total": loss, **metrics, **norms, **noise}

    run_steps = (looped if agent.sees_frames else fused)(agent, minibatch_step, spread)

    def init(seed: int) -> LearnerState:
        params = jnp.asarray(agent.init(seed))
        return LearnerState(params, optimiser.init(params), updates=0, env_steps=0, version=0)

    def order_of(trajectory: Trajectory, updates: int) -> tuple[np.ndarray, int]:
        """The order [steps, rows of a minibatch] of rows, or of environments, and how many there are."""
        steps, envs = trajectory.reward.shape
        own_envs = envs * spread.processes // spread.learners
        own = own_envs if agent.recurrent else own_envs * steps
        streams = ("shuffle", *(f"shuffle/{i}" for i in range(1, spread.learners)))
        orders = [shuffled_rows(derive(seed, stream, updates), own, epochs, minibatches) for stream in streams]
        return spread.rows_on_devices(orders, own_envs, whole_envs=agent.recurrent), own * spread.learners

    def update(state: LearnerState, batch: list[Trajectory]) -> tuple[LearnerState, dict[str, float]]:
        trajectory = learnable(join(batch))
        order, rows = order_of(trajectory, state.updates)
        rate = np.float32(schedule(state.env_steps))
        placed = spread.place(trajectory), spread.place_rows(order)
        params, moments, metrics = run_steps(state.params, state.optimiser, *placed, rate)
        metrics = refuse_non_finite(summarise(jax.device_get(metrics)), state.updates)
        metrics |= {"learning_rate": float(rate), "sample_reuse": order.size / rows}
        steps = state.env_steps + spread.env_steps_in(batch)
        return LearnerState(params, moments, state.updates + epochs * minibatches, steps, state.version + 1), metrics

    return Learner(init, update, acting, devices=spread.devices)


def shuffled_rows(seed: int, rows: int, epochs: int, minibatches: int) -> np.ndarray:
    """Row numbers [epochs * minibatches, rows // minibatches] int32, each epoch a new permutation.

    Where minibatches does not divide rows, the rows left over differ from epoch to epoch.

    Check: an epoch's row numbers are distinct.
    """
    generator = np.random.default_rng(seed)
    size = rows // minibatches
    epochs_of_rows = [generator.permutation(rows)[: size * minibatches] for _ in range(epochs)]
    return np.concatenate(epochs_of_rows).reshape(epochs * minibatches, size).astype(np.int32)


def minibatches_of(seed: int, epochs: int, minibatches: int) -> Callable[[int, int], np.ndarray]:
    """How PPO cuts a batch: (rows, draw) -> row numbers [epochs * minibatches, rows // minibatches], shuffled anew for
    every pass and draw."""
    return lambda rows, draw: shuffled_rows(derive(seed, "shuffle", draw), rows, epochs, minibatches)


def summarise(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the gradient steps; `finite` is the least of them."""
    return {k: float(np.min(v) if k == "finite" else np.mean(v)) for k, v in metrics.items()}


def fused(agent: Agent, minibatch_step: Callable, spread: Spread) -> Callable:
    """All gradient steps of a batch in one compiled call."""

    def run(params, moments, trajectory, order, learning_rate):
        samples = agent.prepare(params, trajectory)

        def body(carry, rows):
            return minibatch_step(carry, jax.tree.map(lambda x: x[rows], samples), learning_rate)

        (params, moments), metrics = jax.lax.scan(body, (params, moments), order)
        return agent.observe(params, trajectory), moments, metrics

    return spread.compiled(run, (SAME, SAME, BATCH, COLUMNS, SAME), SAME)


def looped(agent: Agent, minibatch_step: Callable, spread: Spread) -> Callable:
    """One compiled call per gradient step."""

    def step_on(carry, samples, order, at, learning_rate):
        rows = order[at]
        return minibatch_step(carry, jax.tree.map(lambda x: x[rows], samples), learning_rate)

    prepare = spread.compiled(agent.prepare, (SAME, BATCH), ROWS)
    observe = spread.compiled(agent.observe, (SAME, BATCH), SAME)
    step = spread.compiled(step_on, (SAME, ROWS, COLUMNS, SAME, SAME), SAME)

    def run(params, moments, trajectory, order, learning_rate):
        samples = prepare(params, trajectory)
        carry, all_metrics = (params, moments), []
        for at in range(len(order)):
            carry, metrics = step(carry, samples, order, at, learning_rate)
            all_metrics.append(metrics)
        params, moments = carry
        params = jax.block_until_ready(observe(params, trajectory))
        return params, moments, {k: jnp.stack([m[k] for m in all_metrics]) for k in all_metrics[0]}

    return run
