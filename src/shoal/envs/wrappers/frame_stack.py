# SPDX-License-Identifier: Apache-2.0
"""The last observations in place of the last one: what moves can then be seen by a policy without memory.

Mnih et al. 2015, "Human-level control through deep reinforcement learning", stack four screens.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from shoal.envs.base import VectorEnv
from shoal.envs.wrappers.base import Wrapper
from shoal.trees import tree_map
from shoal.types import ACTION_MASK, ArraySpec, EnvSpec, PyTree, Steps

COLOUR_CHANNELS = (1, 3, 4)


class FrameStack(Wrapper):
    """The last `length` observations of each episode, oldest first; before there are so many, the first is repeated.

    Arrays [channels, height, width] become [length * channels, height, width]; all others, also colour pictures
    [height, width, 3], get a new first axis [length, ...]. A mask over actions stays as it is: only what is legal
    now counts. The final observation of an episode belongs to that episode's stack, since the row after it resets.

    Check: after t steps of an episode, entry -1-i of a stack is the observation after max(0, t - i) steps.
    """

    def __init__(self, env: VectorEnv, length: int):
        super().__init__(env, stacked_spec(env.spec, length))
        self._inner, self._outer = without_mask(env.spec.obs), without_mask(self.spec.obs)
        self._stacks = tree_map(lambda leaf: np.zeros((env.num_envs, length, *leaf.shape), leaf.dtype), self._inner)
        self._in_order = np.arange(env.num_envs)

    def _changed(self, rows: Steps) -> Steps:
        everyone = np.array_equal(rows.slots, self._in_order)
        push = partial(_push, slice(None) if everyone else rows.slots, ~rows.valid)
        obs = tree_map(push, self._stacks, without_mask(rows.obs), self._outer)
        if self.spec.masked:
            obs[ACTION_MASK] = rows.obs[ACTION_MASK]
        return rows._replace(obs=obs)


def _push(
    where: slice | np.ndarray, fresh: np.ndarray, stack: np.ndarray, newest: np.ndarray, spec: ArraySpec
) -> np.ndarray:
    """Move the stacks at `where` one on, in place, and give them in the form of `spec`; fresh ones start anew."""
    moved = stack[where]  # of all environments the stack itself, of some a copy
    moved[:, :-1] = moved[:, 1:]
    moved[:, -1] = newest
    moved[fresh] = newest[fresh, None]
    stack[where] = moved
    return moved.reshape(len(moved), *spec.shape)


def stacked_spec(spec: EnvSpec, length: int) -> EnvSpec:
    """The spec with every array but the mask `length` times as long."""

    def stacked(leaf: ArraySpec) -> ArraySpec:
        channels_first = len(leaf.shape) == 3 and leaf.shape[-1] not in COLOUR_CHANNELS
        shape = (length * leaf.shape[0], *leaf.shape[1:]) if channels_first else (length, *leaf.shape)
        return replace(leaf, shape=shape)

    obs = tree_map(stacked, without_mask(spec.obs))
    return replace(spec, obs=obs | {ACTION_MASK: spec.obs[ACTION_MASK]} if spec.masked else obs)


def without_mask(obs: PyTree) -> PyTree:
    """An observation, or its spec, without the mask over actions."""
    return {name: part for name, part in obs.items() if name != ACTION_MASK} if isinstance(obs, dict) else obs
