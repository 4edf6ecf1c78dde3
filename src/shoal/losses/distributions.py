# SPDX-License-Identifier: Apache-2.0
"""Policies over actions as records of arrays: Categorical over 0 .. A-1, several of them at once, DiagGaussian over [D]
real numbers.

Leading axes [...] are any, usually [T, B]. Logarithms are natural. Sampling takes its noise as an argument
(`shoal.seeds.gumbels`, `shoal.seeds.normals`), so the same noise gives the same action wherever it runs.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.losses.shapes import require_equal_shapes

Array = Any
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Categorical(NamedTuple):
    """One of A actions. A logit of -inf forbids its action; at least one must be finite."""

    logits: Array
    """[..., A] unnormalised log-probabilities"""

    def log_prob(self, action: Array) -> Array:
        """Log-probability of action [...] (int), [...]; actions must lie in 0 .. A-1, others are not detected.

        Check: over all actions the probabilities sum to 1.
        """
        require_equal_shapes(action=action, policy=self.logits[..., 0])
        # a sum over the one that matches: its gradient is a product, a gather's is a scatter, slow on CPU
        hit = jax.nn.one_hot(action, self.logits.shape[-1], axis=0, dtype=jnp.bool_)
        return jnp.sum(jnp.where(hit, _log_softmax(self.logits), 0.0), 0)

    def entropy(self) -> Array:
        """Entropy in nats, [...].

        Check: log A for equal logits.
        """
        log_p = _log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_p) * _finite(log_p), 0)

    def kl(self, other: "Categorical") -> Array:
        """KL(self, other) in nats, [...]; inf where self allows an action that other forbids.

        Check: never negative, and 0 against itself.
        """
        require_equal_shapes(self=self.logits, other=other.logits)
        log_p, log_q = _log_softmax(self.logits), _log_softmax(other.logits)
        gap = jnp.where(log_p > -jnp.inf, log_p - log_q, 0.0)
        return jnp.sum(jnp.exp(log_p) * gap, 0)

    def mode(self) -> Array:
        """Most likely action, [...] int32; the first of equals.

        Check: equals a sample with no noise.
        """
        return jnp.argmax(self.logits, -1).astype(jnp.int32)

    def sample(self, noise: Array) -> Array:
        """Action drawn with standard Gumbel noise [..., A], [...] int32.

        Maddison et al. 2014 (arXiv 1411.0030): argmax(logits + noise) has distribution softmax(logits).

        Check: frequencies approach the probabilities.
        """
        require_equal_shapes(logits=self.logits, noise=noise)
        return jnp.argmax(self.logits + noise, -1).astype(jnp.int32)


class MultiCategorical(NamedTuple):
    """Several independent choices at once: an action is a whole number for each."""

    choices: tuple[Categorical, ...]
    """one for each choice, with logits [..., sizes[i]]"""

    def log_prob(self, action: Array) -> Array:
        """Log-probability of action [..., len(choices)] (int), [...]: the sum over the choices.

        Check: over all joint actions the probabilities sum to 1.
        """
        return sum(choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices))

    def entropy(self) -> Array:
        """Entropy in nats, [...]: the sum over the choices.

        Check: equals that of a Categorical over all joint actions.
        """
        return sum(choice.entropy() for choice in self.choices)

    def kl(self, other: "MultiCategorical") -> Array:
        """KL(self, other) in nats, [...]: the sum over the choices.

        Check: never negative, and 0 against itself.
        """
        return sum(mine.kl(its) for mine, its in zip(self.choices, other.choices, strict=True))

    def mode(self) -> Array:
        """Most likely action, [..., len(choices)] int32.

        Check: equals a sample with no noise.
        """
        return jnp.stack([choice.mode() for choice in self.choices], -1)

    def sample(self, noise: Array) -> Array:
        """Action drawn with standard Gumbel noise [..., sum of sizes], [..., len(choices)] int32.

        Check: each choice has the frequencies of its own Categorical.
        """
        parts = split_choices(noise, tuple(choice.logits.shape[-1] for choice in self.choices))
        return jnp.stack([choice.sample(part) for choice, part in zip(self.choices, parts, strict=True)], -1)


class DiagGaussian(NamedTuple):
    """D independent normal numbers."""

    mean: Array
    """[..., D]"""
    log_std: Array
    """[..., D], or [D] where all rows share it; natural logarithm of the standard deviation"""

    def log_prob(self, action: Array) -> Array:
        """Log-density of action [..., D], [...].

        Check: equals the sum of D one-dimensional log-densities.
        """
        require_equal_shapes(action=action, mean=self.mean)
        log_std = self._log_std()
        z = (action - self.mean) * jnp.exp(-log_std)
        return -jnp.sum(0.5 * jnp.square(z) + log_std + _HALF_LOG_2PI, -1)

    def entropy(self) -> Array:
        """Differential entropy in nats, [...]; may be negative.

        Check: doubling every standard deviation adds D log 2.
        """
        return jnp.sum(self._log_std() + (0.5 + _HALF_LOG_2PI), -1)

    def kl(self, other: "DiagGaussian") -> Array:
        """KL(self, other) in nats, [...].

        Check: never negative, and 0 against itself.
        """
        require_equal_shapes(self=self.mean, other=other.mean)
        log_p, log_q = self._log_std(), other._log_std()
        gap = jnp.square((self.mean - other.mean) * jnp.exp(-log_q))
        return jnp.sum(0.5 * (jnp.exp(2 * (log_p - log_q)) + gap - 1) - log_p + log_q, -1)

    def mode(self) -> Array:
        """Most likely action, [..., D].

        Check: equals a sample with no noise.
        """
        return self.mean

    def sample(self, noise: Array) -> Array:
        """Action drawn with standard normal noise [..., D], [..., D]. Carries a gradient to mean and log_std.

        Check: noise n gives log-density of a standard normal at n, minus the sum of log_std.
        """
        require_equal_shapes(mean=self.mean, noise=noise)
        return self.mean + jnp.exp(self._log_std()) * noise

    def _log_std(self) -> Array:
        if jnp.shape(self.log_std)[-1:] != jnp.shape(self.mean)[-1:]:
            raise ValueError(
                f"log_std {list(jnp.shape(self.log_std))} does not fit mean {list(jnp.shape(self.mean))}; "
                "pass the shape of mean, or its last axis alone"
            )
        return jnp.broadcast_to(self.log_std, jnp.shape(self.mean))


def split_choices(logits: Array, sizes: tuple[int, ...]) -> list[Array]:
    """[..., sum of sizes] as one array [..., sizes[i]] for each choice."""
    ends = list(itertools.accumulate(sizes))
    return [logits[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]


def only_legal(logits: Array, mask: Array) -> Array:
    """Logits [..., A] with -inf where mask [..., A] forbids the action; a mask that allows nothing forbids nothing.

    Check: forbidden actions have probability 0, and no gradient.
    """
    return jnp.where(jnp.logical_or(mask, ~jnp.any(mask, -1, keepdims=True)), logits, -jnp.inf)


def _log_softmax(logits: Array) -> Array:
    """Log-probabilities [A, ...] of logits [..., A]: with actions first, a CPU works on many rows at once; with actions
    last, on the few numbers of one row."""
    return jax.nn.log_softmax(jnp.moveaxis(logits, -1, 0), 0)


def _finite(log_p: Array) -> Array:
    # 0 * log 0 counts as 0, in the value and in the gradient
    return jnp.where(log_p > -jnp.inf, log_p, 0.0)
