# SPDX-License-Identifier: Apache-2.0
"""Acting on real numbers between -1 and 1 in NumPy: a policy that is sure of its action, or one that is drawn from.

Exploration is normal noise added to the action, whose deviation follows the network's params, [network | deviation];
without it nothing is added.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shoal.agents.base import AnyActing, Judged
from shoal.agents.host_math import log_prob_gaussian
from shoal.agents.host_values import NO_NOISE
from shoal.types import Array, Discrete, EnvSpec, PyTree

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""limits of what a network may say (Haarnoja et al. 2018, published code)"""
EDGE = np.float32(1 - 1e-6)
"""actions beyond it count as there: the inverse of tanh is infinite at 1"""


Value = Callable[[Array], Callable[[PyTree, Array], Array]]


@dataclass(frozen=True)
class Control:
    """How a head is read as a policy: the tanh of its first numbers; or where `drawn`, of normal numbers whose means
    and log standard deviations it holds."""

    dims: int
    outputs: int
    """numbers in the head; what is beyond those of the policy is not its"""
    size: int
    """numbers of all flat params"""
    drawn: bool = False

    def head_spec(self, spec: EnvSpec) -> EnvSpec:
        """What the network is built for: a head with as many numbers."""
        return replace(spec, action=Discrete(self.outputs))


def acting_on_control(acting: AnyActing, control: Control, spec: EnvSpec, value: Value | None = None) -> AnyActing:
    """How to act on what `acting`, made for `control.head_spec(spec)`, gives as heads. Heads are then the actions
    themselves [B, D], or where the policy is drawn from [means | log deviations].

    Args:
      value: params -> (obs [T, B, ...], action [T, B, D]) -> values [T, B], where actions are to be judged.

    Check: in NumPy and in JAX actions are the same for the same noise.
    """
    dims, shape = control.dims, spec.action.shape

    def bind(params: Array) -> tuple[Any, np.float32, Array]:
        return acting.bind(params), np.float32(params[control.size] if len(params) > control.size else 0), params

    def act(bound: Any, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        inner, deviation, _ = bound
        _, raw, memory = acting.act(inner, obs, memory, NO_NOISE)
        if control.drawn:
            log_std = np.clip(raw[:, dims : 2 * dims], np.float32(LOG_STD_MIN), np.float32(LOG_STD_MAX))
            head = np.concatenate([raw[:, :dims], log_std], -1)
            action = np.tanh(raw[:, :dims] + np.exp(log_std) * noise[:, :dims])
        else:
            head = action = np.tanh(raw[:, :dims])
        if deviation:
            action = np.clip(action + deviation * noise[:, -dims:], np.float32(-1), np.float32(1))
        return action.reshape(-1, *shape), head, memory

    def log_prob(bound: Any, head: Array, action: Array) -> Array:
        action = np.clip(action.reshape(*head.shape[:-1], dims), -EDGE, EDGE)
        if control.drawn:
            normal = log_prob_gaussian(head[..., :dims], head[..., dims:], np.arctanh(action))
            return normal - np.log1p(-(action**2)).sum(-1)
        deviation = bound[1]
        return (
            log_prob_gaussian(head, np.log(deviation), action) if deviation else np.zeros(head.shape[:-1], np.float32)
        )

    def mode(head: Array) -> Array:
        return (np.tanh(head[:, :dims]) if control.drawn else head).reshape(-1, *shape)

    def judge(bound: Any, obs: PyTree, action: Array, head: Array) -> Judged:
        assert value is not None
        worth = value(bound[2])
        return Judged(worth(obs, action.reshape(head.shape)), worth(obs, head))

    return replace(
        acting,
        bind=bind,
        act=act,
        log_prob=log_prob,
        mode=mode,
        noise="normal",
        noise_size=2 * dims if control.drawn else dims,
        head_size=2 * dims if control.drawn else dims,
        judge=None if value is None else judge,
    )
