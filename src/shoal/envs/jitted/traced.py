# SPDX-License-Identifier: Apache-2.0
"""Environments as pure functions, and many of them stepped together, resets included: traced by JAX.

Nothing here holds state or draws numbers: keys come from outside, one for each environment and step, so that what an
environment draws is a function of its seed, its index and its step wherever it runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from shoal.types import Array, EnvSpec, PyTree


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedEnv:
    """One environment. Compiled code is kept for each of these records, so make one for each kind of environment.

    Keys are two words, uint32 [2]. Observations are as `spec.obs` says, actions on the environment's own scale.
    """

    spec: EnvSpec
    open: Callable[[Array], tuple[PyTree, PyTree]]
    """key -> (state, obs): an episode's beginning"""
    step: Callable[[Array, PyTree, Array], tuple[PyTree, PyTree, Array, Array, Array]]
    """(key, state, action) -> (state, obs, reward, terminated, truncated); it never resets"""


class Lanes(NamedTuple):
    """N environments between two steps."""

    state: PyTree
    """[N, ...]"""
    obs: PyTree
    """[N, ...]"""
    ended: Array
    """[N] bool: the next step only resets"""


class Row(NamedTuple):
    """What a step of N environments gives beside their observations; see `types.Trajectory`."""

    reward: Array
    """[N] float32"""
    terminated: Array
    """[N] bool"""
    truncated: Array
    """[N] bool"""
    valid: Array
    """[N] bool"""


def opened(env: TracedEnv, keys: Array) -> Lanes:
    """Environments at the beginning of an episode, from keys [N, 2]."""
    state, obs = jax.vmap(env.open)(keys)
    return Lanes(state, obs, jnp.zeros(len(keys), bool))


def advance(env: TracedEnv, lanes: Lanes, keys: Array, action: Array) -> tuple[Lanes, Row]:
    """One step of all environments with keys [N, 2] and actions [N, ...]; those that ended only reset.

    Both a step and a reset are computed for everybody, and one of them is chosen: on a CPU it takes a third less time
    than resets computed before the loop or on condition, since all of it becomes one pass.

    Check: rows and observations keep the contract of `envs.base.VectorEnv`.
    """
    stepped, obs, reward, terminated, truncated = jax.vmap(env.step)(keys, lanes.state, action)
    state, obs = chosen(lanes.ended, jax.vmap(env.open)(keys), (stepped, obs))
    valid = ~lanes.ended
    row = Row(jnp.where(valid, reward, 0.0), terminated & valid, truncated & valid, valid)
    return Lanes(state, obs, row.terminated | row.truncated), row


def chosen(which: Array, yes: PyTree, no: PyTree) -> PyTree:
    """Leaves [N, ...] of `yes` where `which` [N] holds, else those of `no`."""

    def one(a: Array, b: Array) -> Array:
        return jnp.where(which.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(one, yes, no)
