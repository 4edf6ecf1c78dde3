# SPDX-License-Identifier: Apache-2.0
"""Trajectories to transitions: what an actor hands to a replay memory.

In: trajectories of any sampler. Out: n-step transitions, whose rewards are what is learnt from. The last n - 1 rows of
an unroll wait for the next one, which completes them.
"""

from contextlib import closing
from typing import Any, NoReturn

import numpy as np

from shoal.actors.notes import note_episodes
from shoal.actors.samplers import Sampler, start
from shoal.actors.synchronous import act_ahead, act_in_step
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store
from shoal.trees import tree_map
from shoal.types import Array, Trajectory, Transitions

ROWS = ("action", "reward", "terminated", "truncated", "valid")
"""fields of a trajectory, besides its observations, that transitions are made of"""


def transitions_in_step(index: int, config: Any, parts: Any, params: Store, transitions: Channel) -> NoReturn:
    """`act_in_step`, for a replay."""
    act_in_step(index, config, parts, params, transitions, start_transitions)


def transitions_ahead(index: int, config: Any, parts: Any, params: Store, transitions: Channel) -> NoReturn:
    """`act_ahead`, for a replay."""
    act_ahead(index, config, parts, params, transitions, start_transitions)


def act_by_episode(index: int, config: Any, parts: Any, params: Store, transitions: Channel) -> NoReturn:
    """One collector's life at its environment's own pace: take the newest params when an episode begins, step, and hand
    over every step, waiting for nobody."""
    with closing(phase("start", start_transitions, index, config, parts, me().epoch)) as sampler:
        while True:
            acting, version = params.pull()
            while True:
                rows = sampler.unroll(acting, version, 1)
                if len(rows.reward):
                    transitions.put(rows, version)
                if sampler.ended:
                    break


def start_transitions(index: int, config: Any, parts: Any, epoch: int = 0) -> "TransitionSampler":
    """The sampler of actor `index`, for a replay."""
    return TransitionSampler(start(index, config, parts, epoch), Builder(config, index * config.envs_per_actor))


class TransitionSampler:
    """A sampler whose unrolls are transitions. Episodes that end are noted, since no trajectory tells of them."""

    def __init__(self, sampler: Sampler, builder: "Builder"):
        self._sampler, self._builder = sampler, builder
        self.ended = False
        """whether an episode ended in the last unroll"""

    def unroll(self, params: Array, version: int, length: int) -> Transitions:
        """The rows that `length` more steps of every environment complete."""
        trajectory = self._sampler.unroll(params, version, length)
        note_episodes(trajectory)
        self.ended = bool(np.logical_or(trajectory.terminated, trajectory.truncated).any())
        return phase("build", self._builder.transitions, trajectory)

    def close(self) -> None:
        """Free what the environments hold."""
        self._sampler.close()


class Builder:
    """n-step transitions of one actor's environments, carried from unroll to unroll.

    Args:
      first_index: of its environments, counted over all actors.

    Check: building from an unroll in two parts gives the rows of the whole.
    """

    def __init__(self, config: Any, first_index: int):
        self._steps, self._discount = config.n_step, config.discount
        self._scale, self._clip = config.reward_scale, config.reward_clip
        self._first_index = first_index
        self._waiting: Trajectory | None = None

    def transitions(self, trajectory: Trajectory) -> Transitions:
        """The rows [T, B] that these steps complete; the first unroll's are n - 1 fewer than its steps."""
        reward = learnt_reward(trajectory.reward, self._scale, self._clip)
        steps = trajectory._replace(reward=reward)
        if self._waiting is not None:
            steps = behind(self._waiting, steps)
        held = self._steps - 1
        if held:
            self._waiting = tail(steps, held)
        rows = n_step_rows(steps, self._steps, self._discount, max(0, len(steps.reward) - held))
        return rows._replace(stream=self._first_index + np.arange(trajectory.reward.shape[1]))


def learnt_reward(reward: Array, scale: float, clip: float | None) -> Array:
    """[T, B] float32: scaled, then clipped.

    Check: equals what learners make of a trajectory's rewards.
    """
    scaled = reward * np.float32(scale)
    return scaled if clip is None else np.clip(scaled, -clip, clip)


def n_step_rows(steps: Trajectory, n: int, discount: float, length: int) -> Transitions:
    """The first `length` rows' transitions over up to n steps of a trajectory of at least length + n - 1.

    A row sums rewards until its episode ends or was lost (Sutton & Barto 2018, eq. 7.1): terminated, nothing follows;
    truncated, the final observation's value does; lost, that of the last known one, which the step before led to.

    Check: equals a loop over rows that adds rewards one by one.
    """
    reward = np.zeros((length, *steps.reward.shape[1:]), np.float32)
    taken = np.zeros(reward.shape, np.int32)
    terminated = np.zeros(reward.shape, bool)
    goes_on = np.ones(reward.shape, bool)
    for k in range(n):
        at = slice(k, k + length)
        counts = goes_on & steps.valid[at]
        reward += np.where(counts, np.float32(discount**k) * steps.reward[at], np.float32(0))
        taken += counts
        terminated |= counts & steps.terminated[at]
        goes_on = counts & ~(steps.terminated[at] | steps.truncated[at])
    bootstrap = np.float32(discount) ** taken.astype(np.float32)
    return Transitions(
        obs=tree_map(lambda leaf: leaf[: length + n], steps.obs),
        action=steps.action[:length],
        reward=reward,
        discount=np.where(terminated, np.float32(0), bootstrap),
        steps=np.maximum(taken, 1),
        valid=steps.valid[:length],
        version=steps.version,
        stream=(),
    )


def behind(first: Trajectory, second: Trajectory) -> Trajectory:
    """One trajectory of two that follow each other; what is not needed for transitions is the second's."""
    joined = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in ROWS}
    obs = tree_map(lambda a, b: np.concatenate([a[:-1], b]), first.obs, second.obs)
    return second._replace(**joined, obs=obs, version=np.minimum(first.version, second.version))


def tail(steps: Trajectory, length: int) -> Trajectory:
    """The last `length` rows, and the observation after them, in new arrays: the old ones are the receiver's."""
    kept = {name: getattr(steps, name)[-length:].copy() for name in ROWS}
    return steps._replace(**kept, obs=tree_map(lambda leaf: leaf[-length - 1 :].copy(), steps.obs))
