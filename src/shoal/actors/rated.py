# SPDX-License-Identifier: Apache-2.0
"""Transitions with first priorities: how wrong the values were that acted, by what they were found to lead to.

In: trajectories, and the values that acted in them. Out: n-step transitions, each with |target - value|. The last n
rows of an unroll wait for the next one: only then was the observation acted in that they lead to. Horgan et al. 2018
(arXiv 1803.00933, section 3): new rows with the highest priority so far would drown all others.
"""

from contextlib import closing
from typing import Any, NoReturn

import numpy as np

from shoal.actors.notes import note_episodes
from shoal.actors.samplers import Sampler, start
from shoal.actors.transitions import behind, learnt_reward, n_step_rows, tail
from shoal.actors.witness import Witness
from shoal.agents.base import Judged
from shoal.agents.exploration import followed_by
from shoal.engines import me, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.store import Store
from shoal.trees import read_at, tree_map
from shoal.types import Array, Trajectory, Transitions


def collect_freely(index: int, config: Any, params: Store, rows: Channel, sampler: Any) -> NoReturn:
    """What an actor does who waits for nobody: take the newest params now and then, unroll, hand over what is complete.

    It explores in a way of its own, the same from beginning to end.
    """
    unrolls = max(1, config.params_interval // config.unroll_length)
    while True:
        flat, version = params.pull()
        acting = followed_by(flat, config.explores_as(index))
        for _ in range(unrolls):
            made = sampler.unroll(acting, version, config.unroll_length)
            if made is not None:
                rows.put(made, version)


def act_rated(index: int, config: Any, parts: Any, params: Store, transitions: Channel) -> NoReturn:
    """One actor's life, for a replay with priorities."""
    with closing(phase("start", start_rated, index, config, parts, me().epoch)) as sampler:
        collect_freely(index, config, params, transitions, sampler)


def start_rated(index: int, config: Any, parts: Any, epoch: int = 0) -> "RatedSampler":
    """The sampler of actor `index`, for a replay with priorities."""
    witness = Witness(parts.agent)
    sampler = start(index, config, parts._replace(agent=witness.agent), epoch)
    return RatedSampler(sampler, witness, RatedBuilder(config, index * config.envs_per_actor))


class RatedSampler:
    """A sampler whose unrolls are transitions with priorities. Episodes that end are noted."""

    def __init__(self, sampler: Sampler, witness: Witness, builder: "RatedBuilder"):
        self._sampler, self._witness, self._builder = sampler, witness, builder

    def unroll(self, params: Array, version: int, length: int) -> Transitions | None:
        """The rows that `length` more steps of every environment complete, if any."""
        trajectory = self._sampler.unroll(params, version, length)
        judged, _ = self._witness.take(trajectory)
        note_episodes(trajectory)
        rows = phase("build", self._builder.transitions, trajectory, judged)
        return rows if len(rows.reward) else None

    def close(self) -> None:
        """Free what the environments hold."""
        self._sampler.close()


class RatedBuilder:
    """n-step transitions of one actor's environments with priorities, carried from unroll to unroll.

    Args:
      first_index: of its environments, counted over all actors.

    Check: priorities equal a loop that recomputes every error from the values that acted; none is a highest so far.
    """

    def __init__(self, config: Any, first_index: int):
        self._steps, self._discount = config.n_step, config.discount
        self._scale, self._clip = config.reward_scale, config.reward_clip
        self._first_index = first_index
        self._waiting: tuple[Trajectory, Judged] | None = None

    def transitions(self, trajectory: Trajectory, judged: Judged) -> Transitions:
        """The rows [T, B] that these steps complete; the first unroll's are n fewer than its steps.

        Args:
          judged: values [T, B] of the steps, by the params that acted in them.
        """
        n = self._steps
        steps = trajectory._replace(reward=learnt_reward(trajectory.reward, self._scale, self._clip))
        if self._waiting is not None:
            before, known = self._waiting
            steps, judged = behind(before, steps), tree_map(lambda a, b: np.concatenate([a, b]), known, judged)
        self._waiting = tail(steps, n), read_at(judged, slice(-n, None))
        rows = n_step_rows(steps, n, self._discount, max(0, len(judged.taken) - n))
        stream = self._first_index + np.arange(judged.taken.shape[1])
        return rows._replace(stream=stream, priority=value_errors(judged, rows))


def value_errors(judged: Judged, rows: Transitions, rescaled: bool = False) -> Array:
    """|R + discount * best value of the observation it led to - value of the action taken| [T, B] float32, 0 in rows
    that do not count.

    Args:
      judged: values [T + n, B] by those who acted, at least as many rows as transitions lead to.
      rescaled: values are h(values), see `rescale`, and so are targets.

    Check: 0 where values already are what was found.
    """
    length = len(rows.reward)
    follows = judged.best[np.arange(length)[:, None] + rows.steps, np.arange(rows.reward.shape[1])]
    follows = np.where(rows.discount > 0, follows, 0)
    target = rows.reward + rows.discount * (unscale(follows) if rescaled else follows)
    error = np.abs((rescale(target) if rescaled else target) - judged.taken[:length])
    return np.where(rows.valid, error, 0).astype(np.float32)


EPSILON = 1e-3
"""of the linear part, which makes the inverse steep but finite"""


def rescale(x: Array) -> Array:
    """h(x) = sign(x) (root(|x| + 1) - 1) + epsilon x: rewards of any size come down to values of a few tens.

    Pohlen et al. 2018 (arXiv 1805.11593), proposition A.2.
    """
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + EPSILON * x


def unscale(x: Array) -> Array:
    """The inverse of `rescale`.

    Check: unscale(rescale(x)) is x.
    """
    root = (np.sqrt(1 + 4 * EPSILON * (np.abs(x) + 1 + EPSILON)) - 1) / (2 * EPSILON)
    return np.sign(x) * (root * root - 1)
