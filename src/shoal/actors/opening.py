# SPDX-License-Identifier: Apache-2.0
"""The first observations of a sampler's environments: all at the start of an episode, or somewhere in it.

Environments that all start at once stay in step for a while: their episodes end together and a batch sees one part of
an episode only. A random number of random steps before the first unroll spreads them.
"""

from typing import Any, NamedTuple

import numpy as np

from shoal import seeds
from shoal.agents.host_actions import host_actions
from shoal.envs.base import VectorEnv, refuse_together
from shoal.trees import read_at, tree_map, write_at
from shoal.types import ACTION_MASK, Array, PyTree


class Opening(NamedTuple):
    """Where B environments are before row 0."""

    obs: PyTree
    """[B, ...]"""
    episode_return: Array
    """[B] raw return of the running episode so far"""
    episode_length: Array
    """[B] its steps so far"""
    discounted_return: Array
    """[B] float32: its discounted return"""


def open_episodes(env: VectorEnv, seed: int, indices: Array, *, decorrelate: int, discount: float = 0.0) -> Opening:
    """Reset environments, then let each take 0 .. `decorrelate` steps of a policy that prefers nothing.

    How many, and which actions, is a function of seed, environment index and step alone. They belong to no batch; their
    rewards belong to the episode that is running.

    Args:
      indices: [B], counted over all actors.

    Raises ConfigError where environments that cannot be stepped apart should be spread.

    Check: two halves of the environments open as the whole does; with decorrelate 0 every episode is at its start.
    """
    env.reset(seed)
    rows = env.recv()
    n = env.num_envs
    found = Opening(tree_map(np.array, rows.obs), np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.float32))
    if not decorrelate:
        return found
    refuse_together(env, f"decorrelate={decorrelate}")
    actions, size = host_actions(env.spec.action), env.spec.action.head_size
    draw = seeds.gumbels if actions.noise == "gumbel" else seeds.normals
    steps = (seeds.uniforms(seed, "decorrelate", indices, 0, 1, 1)[0, :, 0] * (decorrelate + 1)).astype(int)
    noise = draw(seed, "decorrelate actions", indices, 0, decorrelate, size)
    begin_batch: Any = getattr(env, "begin_batch", lambda: None)
    for t in range(int(steps.max())):
        going = np.flatnonzero(steps > t)
        head = np.zeros((len(going), size), np.float32)
        if env.spec.masked:
            head = actions.only_legal(head, found.obs[ACTION_MASK][going])
        action = actions.sample(head, noise[t, going], np.zeros(size, np.float32))
        begin_batch()
        env.send(env.spec.action.to_env(action), going)
        _add(found, env.recv(), discount)
    return found


def _add(found: Opening, rows: Any, discount: float) -> None:
    slots, goes_on = rows.slots, ~(rows.terminated | rows.truncated)
    write_at(found.obs, slots, rows.obs)
    found.episode_return[slots] = np.where(goes_on, found.episode_return[slots] + rows.reward, 0)
    found.episode_length[slots] = np.where(goes_on, found.episode_length[slots] + rows.valid, 0)
    discounted = rows.reward + np.float32(discount) * read_at(found.discounted_return, slots)
    found.discounted_return[slots] = np.where(goes_on, discounted, np.float32(0))
