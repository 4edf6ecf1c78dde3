# SPDX-License-Identifier: Apache-2.0
"""One update rule for several parts of the flat params, each clipped by itself and with moments of its own: what an
actor and its critics are stepped with."""

from typing import Any

import jax
import jax.numpy as jnp

from shoal.agents.base import Part
from shoal.learners.optimiser import Optimiser
from shoal.types import Array


class PartsOptimiser:
    """As `Optimiser`, with a step that also takes its number. Params that belong to no part stay as they are; without
    parts it is the one optimiser of all.

    Check: two parts of one rate, with clipping out of reach, step as the whole does.
    """

    def __init__(self, optimiser: Optimiser, parts: tuple[Part, ...]):
        self._optimiser, self._parts = optimiser, parts
        self.every = max((part.every for part in parts), default=1)
        """steps until each part has taken one"""

    def init(self, params: Array) -> Any:
        """Moments of all parts."""
        if not self._parts:
            return self._optimiser.init(params)
        return tuple(self._optimiser.init(params[part.first : part.end]) for part in self._parts)

    def step(
        self, params: Array, moments: Any, grad: Array, learning_rate: Array, number: Array
    ) -> tuple[Array, Any, dict[str, Array]]:
        """(params, moments, metrics) after step `number`, counted from 0."""
        if not self._parts:
            return self._optimiser.step(params, moments, grad, learning_rate)
        after, found = [], []
        for part, before in zip(self._parts, moments, strict=True):
            at = slice(part.first, part.end)
            stepped, new, metrics = self._optimiser.step(params[at], before, grad[at], learning_rate * part.rate)
            if part.every > 1:
                due, old = due_at(number, part.every), (params[at], before)
                stepped, new = jax.tree.map(lambda a, b, due=due: jnp.where(due, a, b), (stepped, new), old)
            params = params.at[at].set(stepped)
            after.append(new)
            found.append(metrics)
        norms = {name: jnp.sqrt(sum(one[name] ** 2 for one in found)) for name in ("grad_norm", "step_norm")}
        return params, tuple(after), {**norms, "finite": jnp.min(jnp.stack([one["finite"] for one in found]))}


def due_at(number: Array, every: int) -> Array:
    """Whether step `number`, counted from 0, is the last of `every` ones."""
    return number % every == every - 1
