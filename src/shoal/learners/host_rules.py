# SPDX-License-Identifier: Apache-2.0
"""Update rules in NumPy, number by number and in place: what workers apply to a shared vector themselves.

A rule is a frozen record, called with (params [n], moments [k, n], grad [n], rate) on any part of a vector: no number
depends on its neighbours, so parts may be done in any order and by anybody. Twins of `shoal.learners.optimiser`. Whose
moments are used is the vector's choice: rows [k, N] that all share, or [workers, k, N], each worker's own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from shoal.errors import ConfigError, NonFiniteError

BETA_1, BETA_2 = 0.9, 0.999
"""Adam's decays"""


@dataclass(frozen=True)
class Sgd:
    """params -= rate * grad."""

    moments = 0
    """rows of state"""

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        params -= np.float32(rate) * grad


@dataclass(frozen=True)
class Momentum:
    """velocity = decay * velocity + grad; params -= rate * velocity."""

    decay: float = 0.9
    moments = 1

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        (velocity,) = moments
        velocity *= np.float32(self.decay)
        velocity += grad
        params -= np.float32(rate) * velocity


@dataclass(frozen=True)
class RmsProp:
    """g2 = decay * g2 + (1 - decay) * grad^2; params -= rate * grad / root of g2.

    With rows that all workers share it is the rule that A3C's paper found the most robust; its epsilon is not stated
    there. Centred, the mean gradient is kept as well, and g2 - mean^2 takes the place of g2.

    Args:
      epsilon_in_root: root(g2 + epsilon) instead of root(g2) + epsilon.
    """

    decay: float = 0.99
    epsilon: float = 1e-5
    centred: bool = False
    epsilon_in_root: bool = False

    @property
    def moments(self) -> int:
        """Rows of state: mean square, and mean where centred."""
        return 2 if self.centred else 1

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        keep, take = np.float32(self.decay), np.float32(1 - self.decay)
        square = moments[0]
        square *= keep
        square += take * (grad * grad)
        spread = square
        if self.centred:
            mean = moments[1]
            mean *= keep
            mean += take * grad
            spread = np.maximum(square - mean * mean, np.float32(0))
        epsilon = np.float32(self.epsilon)
        root = np.sqrt(spread + epsilon) if self.epsilon_in_root else np.sqrt(spread) + epsilon
        params -= np.float32(rate) * (grad / root)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) in the form at the end of their section 2: params -= rate * m / (root(v) + epsilon), the
    correction of both moments' bias being in the rate.

    The moments may be shared, the count of steps is each worker's own (Accelerated Methods' code): it gives the rule
    `corrected(rate, steps)`.
    """

    epsilon: float = 1e-5
    moments = 2

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        mean, square = moments
        mean *= np.float32(BETA_1)
        mean += np.float32(1 - BETA_1) * grad
        square *= np.float32(BETA_2)
        square += np.float32(1 - BETA_2) * (grad * grad)
        params -= np.float32(rate) * (mean / (np.sqrt(square) + np.float32(self.epsilon)))


HostRule = Sgd | Momentum | RmsProp | Adam


def corrected(rule: Any, rate: float, steps: int) -> float:
    """The rate for a worker's step number `steps`, counted from 1: Adam's is corrected for moments that began at 0.

    Check: with it Adam's first step is `rate` long in every number, however small the gradient.
    """
    if not isinstance(rule, Adam):
        return rate
    return rate * float(np.sqrt(1 - BETA_2**steps)) / (1 - BETA_1**steps)


def make_host_rule(config: Any) -> HostRule:
    """The rule that a config names: the twin of what `optimiser.make_optimiser` makes of it."""
    growth = config.rows_per_step / config.reference_batch if config.epsilon_over_batch else 1.0
    epsilon = config.optimiser_epsilon / growth
    rules = {
        "sgd": Sgd,
        "momentum": lambda: Momentum(config.optimiser_momentum),
        "rmsprop": lambda: RmsProp(config.optimiser_decay, epsilon, config.optimiser_centred, config.epsilon_in_root),
        "adam": lambda: Adam(epsilon),
    }
    if config.optimiser not in rules:
        raise ConfigError(
            f"optimiser={config.optimiser!r} cannot work on parts of a shared vector; use {' or '.join(rules)}"
        )
    return rules[config.optimiser]()


def clip_to(grad: np.ndarray, max_norm: float) -> tuple[np.ndarray, float]:
    """(gradient [N] scaled down to this length if it is longer, its length before).

    Check: the result is never longer than max_norm, and shorter gradients are what they were.
    """
    norm = float(np.sqrt(np.dot(grad, grad)))
    return grad * np.float32(min(1.0, max_norm / (norm + 1e-12))), norm


def pushable(
    grad: np.ndarray, metrics: dict[str, float], max_grad_norm: float, updates: int
) -> tuple[np.ndarray, dict[str, float]]:
    """(gradient [N] clipped by its own worker, metrics with its length before).

    Raises: NonFiniteError where it is not finite: pushed, it would spoil the params of all workers.
    """
    clipped, norm = clip_to(grad, max_grad_norm)
    if not np.isfinite(norm):
        raise NonFiniteError(
            f"update {updates}: a worker's gradient is not finite; nothing of it was pushed; lower learning_rate or "
            "max_grad_norm, or check the environment's rewards and observations"
        )
    return clipped, {**metrics, "grad_norm": norm}
