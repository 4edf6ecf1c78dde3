# SPDX-License-Identifier: Apache-2.0
"""Gradient steps on minibatches that a replay memory drew, with params to make targets with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shoal.agents.base import Agent
from shoal.learners.base import Learner, LearnerState
from shoal.learners.optimiser import Optimiser, refuse_non_finite
from shoal.learners.parts import PartsOptimiser, due_at
from shoal.learners.schedule import Schedule
from shoal.learners.single import acting
from shoal.learners.spread import ALONE, COLUMNS, SAME, Spread
from shoal.losses.across import total
from shoal.trees import tree_map
from shoal.types import Array, Batch, Sequences


class Held(NamedTuple):
    """What a learner from replay carries beside its params."""

    moments: Any
    target: Array
    """[P] params that targets are made with"""
    seed: Array
    """of the noise in losses"""
    renewed: Array
    """intervals of env steps that were over when the target was last made with newer params"""


def make_replayed(
    agent: Agent, optimiser: Optimiser, schedule: Schedule, config: Any, spread: Spread = ALONE
) -> Learner:
    """A learner whose `learn` takes a step for each of K minibatches in one compiled call.

    Target params go the part `config.target_rate` of the way to the newest ones: after every step; or, where
    `config.target_interval` is above 0, before the first step that follows so many env steps. These are counted in what
    the memory received, so they hold when the batch varies. With rate 1 and no interval there is no target network
    (Mnih et al. 2013).

    Check: K minibatches in one call give what K calls give; the target changes at multiples of the interval only.
    """
    stepping, gradient_of, steps = stepped_by(agent, optimiser, config)
    interval, rate = config.target_interval, np.float32(config.target_rate)
    compiled_steps = spread.compiled(steps, (SAME, SAME, COLUMNS, SAME, SAME), (SAME, SAME, COLUMNS, SAME))
    compiled_moved = jax.jit(lambda target, params: moved(target, params, rate))
    compiled_gradient = jax.jit(gradient_of)

    def init(seed: int) -> LearnerState:
        params = jnp.asarray(agent.init(seed))
        held = Held(stepping.init(params), params, jnp.uint32(seed % 2**32), jnp.int32(0))
        return LearnerState(params, held, updates=0, env_steps=0, version=0)

    def learn(
        state: LearnerState, batch: Batch | Sequences, env_steps: int
    ) -> tuple[LearnerState, np.ndarray, dict[str, float]]:
        params, held, number = state.params, state.optimiser, state.updates
        if interval and env_steps // interval > int(held.renewed):
            target = compiled_moved(held.target, params)
            held = held._replace(target=target, renewed=np.int32(env_steps // interval))
        learning_rate = np.float32(schedule(env_steps))
        seen = []
        for group in minibatches_of(batch, one_by_one=agent.sees_frames):
            placed = spread.place_groups(learnable(group))
            params, held, *found = compiled_steps(params, held, placed, np.int32(number), learning_rate)
            seen.append(found)
            number += len(group.weight)
        errors, metrics = zip(*jax.device_get(seen), strict=True)
        said = refuse_non_finite(over_steps(metrics), state.updates) | {"learning_rate": float(learning_rate)}
        state = LearnerState(params, held, number, env_steps, state.version + 1)
        return state, np.concatenate(errors).reshape(batch.weight.shape), said

    def replay_gradient(
        params: Array, target: Array, batch: Batch | Sequences, number: int = 0
    ) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        grad, errors, metrics = jax.device_get(
            compiled_gradient(params, target, learnable(batch), jax.random.key(number))
        )
        return grad, errors, {name: float(value) for name, value in metrics.items()}

    return Learner(init, no_trajectories, acting, devices=spread.devices, learn=learn, replay_gradient=replay_gradient)


def stepped_by(agent: Agent, optimiser: Optimiser, config: Any) -> tuple[PartsOptimiser, Callable, Callable]:
    """(optimiser, gradient of one minibatch, steps on K of them) of an agent, the latter two to be compiled."""
    if agent.replayed is None:
        raise TypeError("this agent learns from trajectories only: it has no loss over rows of a replay memory")
    loss, stepping = agent.replayed.loss, PartsOptimiser(optimiser, agent.replayed.parts)
    interval, rate = config.target_interval, np.float32(config.target_rate)

    def gradient_of(params: Array, target: Array, batch: Batch | Sequences, key: Array):
        with_errors = jax.value_and_grad(loss, has_aux=True)
        (value, (errors, metrics)), grad = with_errors(params, target, batch, key)
        return total(grad), errors, {"loss/total": value, **metrics}

    def steps(params: Array, held: Held, batches: Batch | Sequences, first: Array, learning_rate: Array):
        root = jax.random.key(held.seed)

        def step(carry: tuple, batch: Batch | Sequences):
            params, moments, target, number = carry
            grad, errors, metrics = gradient_of(params, target, batch, jax.random.fold_in(root, number))
            params, moments, norms = stepping.step(params, moments, grad, learning_rate, number)
            if not interval:
                nearer = moved(target, params, rate)
                target = nearer if stepping.every == 1 else jnp.where(due_at(number, stepping.every), nearer, target)
            return (params, moments, target, number + 1), (errors, metrics | norms)

        carry = (params, held.moments, held.target, first)
        (params, moments, target, _), (errors, metrics) = jax.lax.scan(step, carry, batches)
        return params, held._replace(moments=moments, target=target), errors, metrics

    return stepping, gradient_of, steps


def no_trajectories(*_: Any) -> Any:
    """Stands where other learners take trajectories."""
    raise TypeError("a learner from replay takes what a memory draws: call `learn`")


def moved(target: Array, params: Array, rate: np.float32) -> Array:
    """Target params [P] that went the part `rate` of the way to others (Lillicrap et al. 2016, algorithm 1).

    Check: with rate 1 they are the others.
    """
    return params if rate == 1 else target + rate * (params - target)


def minibatches_of(batch: Batch | Sequences, *, one_by_one: bool) -> list[Batch | Sequences]:
    """One minibatch [N, ...] or K of them [K, N, ...] as they are computed together, [k, N, ...]: all at once; or
    one by one, since networks over frames run slower inside a scan."""
    groups = batch if batch.weight.ndim > 1 else tree_map(lambda leaf: np.asarray(leaf)[None], batch)
    if not one_by_one:
        return [groups]
    return [tree_map(lambda leaf, k=k: leaf[k : k + 1], groups) for k in range(len(groups.weight))]


def learnable(batch: Batch | Sequences) -> Batch | Sequences:
    """The batch without what no loss reads, so that it isn't sent to the device."""
    if isinstance(batch, Batch):
        return batch._replace(key=(), version=())
    steps = batch.steps._replace(version=(), log_prob=(), episode_return=(), episode_length=(), discounted_return=())
    return batch._replace(key=(), priority=(), steps=steps)


def over_steps(found: tuple[dict[str, np.ndarray], ...]) -> dict[str, float]:
    """Metrics [k] of single steps as those of all: their means, of `finite` the least."""
    joined = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return {name: float(values.min() if name == "finite" else values.mean()) for name, values in joined.items()}
