# SPDX-License-Identifier: Apache-2.0
"""The host interface over environments written in JAX: one compiled call per step, for whoever acts outside of it."""

from functools import partial

import jax
import numpy as np

from shoal import seeds
from shoal.envs.base import in_slot_order
from shoal.envs.jitted.traced import Lanes, Row, TracedEnv, advance, opened
from shoal.trees import tree_map
from shoal.types import Array, Steps

KEYS_AHEAD = 256
"""steps whose keys are drawn in one call"""


class JittedVector:
    """N environments of one kind, stepped together. Rollouts that compile everything take `traced` instead.

    Check: a fused rollout gives the trajectory that acting on this interface gives.
    """

    split_invariant = True
    steps_apart = False

    def __init__(self, traced: TracedEnv, num_envs: int, first_index: int = 0):
        self.traced, self.spec = traced, traced.spec
        self.num_envs = num_envs
        self._indices = first_index + np.arange(num_envs)
        self._slots = np.arange(num_envs)
        self._seed = self._step = 0
        self._keys = np.zeros((0, num_envs, 2), np.uint32)
        self._lanes: Lanes | None = None
        self._row: Row | None = None

    def reset(self, seed: int) -> None:
        self._seed, self._step = seed, 0
        self._keys = self._keys[:0]
        self._lanes = _opened(self.traced, self._next_keys())
        never = np.zeros(self.num_envs, bool)
        self._row = Row(np.zeros(self.num_envs, np.float32), never, never, never)

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Start the step and return at once."""
        if self._row is not None:
            raise ValueError("an environment was sent an action before its last row was received")
        action = in_slot_order(np.asarray(action), slots, self.num_envs)
        self._lanes, self._row = _advanced(self.traced, self._lanes, self._next_keys(), action)

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of all environments, when the step is done."""
        if self._row is None or self._lanes is None:
            raise ValueError("nothing to receive: send actions first")
        row, self._row = self._row, None
        return Steps(self._slots, tree_map(np.array, self._lanes.obs), *(np.array(field) for field in row))

    def close(self) -> None:
        """There is nothing to free."""

    def _next_keys(self) -> Array:
        """Keys [N, 2] of the next step."""
        at = self._step % KEYS_AHEAD
        if at == 0:
            self._keys = seeds.keys(self._seed, "env", self._indices, self._step, KEYS_AHEAD)
        self._step += 1
        return self._keys[at]


@partial(jax.jit, static_argnums=0)
def _opened(env: TracedEnv, keys: Array) -> Lanes:
    return opened(env, keys)


@partial(jax.jit, static_argnums=0)
def _advanced(env: TracedEnv, lanes: Lanes, keys: Array, action: Array) -> tuple[Lanes, Row]:
    return advance(env, lanes, keys, action)
