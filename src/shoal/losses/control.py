# SPDX-License-Identifier: Apache-2.0
"""Actions that are real numbers between -1 and 1: policies squashed by tanh, and values quadratic in the action."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.losses.distributions import DiagGaussian
from shoal.losses.shapes import require_equal_shapes

Array = Any
EDGE = 1 - 1e-6
"""actions beyond it count as there: the inverse of tanh is infinite at 1"""


class Noisy(NamedTuple):
    """A policy that is sure of its action, with normal noise added and cut off at -1 and 1."""

    action: Array
    """[..., D]"""
    deviation: Array
    """scalar"""

    def sample(self, noise: Array) -> Array:
        """Actions [..., D] from standard normal noise [..., D].

        Check: without deviation the action itself.
        """
        return jnp.clip(self.action + self.deviation * noise, -1.0, 1.0)

    def log_prob(self, action: Array) -> Array:
        """Log-density [...] of action [..., D] before it is cut off; 0 where nothing is added.

        Check: equals the normal's.
        """
        log_std = jnp.log(jnp.where(self.deviation > 0, self.deviation, 1.0))
        normal = self._normal(log_std).log_prob(action)
        return jnp.where(self.deviation > 0, normal, 0.0)

    def entropy(self) -> Array:
        """Differential entropy [...] in nats before actions are cut off; -inf where nothing is added."""
        return self._normal(jnp.log(self.deviation)).entropy()

    def mode(self) -> Array:
        """The action itself, [..., D]."""
        return self.action

    def _normal(self, log_std: Array) -> DiagGaussian:
        return DiagGaussian(self.action, jnp.broadcast_to(log_std, self.action.shape))


class Squashed(NamedTuple):
    """The tanh of normal numbers (Haarnoja et al. 2018, arXiv 1801.01290, appendix C), and maybe noise added to it."""

    normal: DiagGaussian
    """over [..., D]"""
    deviation: Array | float = 0.0
    """scalar, of what is added after the tanh; log-probabilities leave it out"""

    def sample(self, noise: Array) -> Array:
        """Actions [..., D] from standard normal noise [..., 2 * D]: D numbers to draw with, then those to add.

        Check: equals the host's.
        """
        drawn, added = jnp.split(noise, 2, -1)
        return jnp.clip(jnp.tanh(self.normal.sample(drawn)) + self.deviation * added, -1.0, 1.0)

    def draw(self, noise: Array) -> tuple[Array, Array]:
        """(actions [..., D], their log-densities [...]) from standard normal noise [..., D]; gradients pass through.

        Check: log-densities are `log_prob` of the actions.
        """
        before = self.normal.sample(noise)
        return jnp.tanh(before), self.normal.log_prob(before) - log_slope(before)

    def log_prob(self, action: Array) -> Array:
        """Log-density [...] of action [..., D].

        Check: its exponential integrates to 1 over [-1, 1].
        """
        before = jnp.arctanh(jnp.clip(action, -EDGE, EDGE))
        return self.normal.log_prob(before) - log_slope(before)

    def entropy(self) -> Array:
        """Differential entropy [...] in nats of the normal numbers; after the tanh it is less."""
        return self.normal.entropy()

    def mode(self) -> Array:
        """The tanh of the mean, [..., D]."""
        return jnp.tanh(self.normal.mode())


def log_slope(before: Array) -> Array:
    """log |d tanh(x) / dx| of x [..., D], summed over D: 2 (log 2 - x - softplus(-2 x)), finite for every x.

    Check: equals log(1 - tanh(x)^2) where that is exact.
    """
    return jnp.sum(2.0 * (math.log(2.0) - before - jax.nn.softplus(-2.0 * before)), -1)


def quadratic_advantage(action: Array, best: Array, entries: Array) -> Array:
    """How much worse actions are than the best one, [...]: -1/2 (a - best)' L L' (a - best) (Gu et al. 2016, arXiv
    1603.00748, equation 3).

    Args:
      action, best: [..., D].
      entries: [..., D (D + 1) / 2] of the lower triangle L, row by row; those on the diagonal are logarithms.

    Check: 0 at the best action, below 0 elsewhere.
    """
    dims = require_equal_shapes(action=action, best=best)[-1]
    rows, columns = jnp.tril_indices(dims)
    lower = jnp.zeros((*entries.shape[:-1], dims, dims), entries.dtype).at[..., rows, columns].set(entries)
    diagonal = jnp.eye(dims, dtype=bool)
    lower = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, lower, 0.0)), lower)
    return -0.5 * jnp.sum(jnp.square(jnp.einsum("...ij,...i->...j", lower, action - best)), -1)
