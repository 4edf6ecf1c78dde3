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


class Rule:
    """What rules share: how moments take up a gradient, then the direction to go."""

    decays: tuple[float, ...] = ()
    """for each row of moments, the factor by which what it holds shrinks with every gradient"""

    @property
    def moments(self) -> int:
        """Rows of state."""
        return len(self.decays)

    def remember(self, moments: np.ndarray, grad: np.ndarray) -> None:
        """Let the moments take up a gradient, in place."""

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """Which way to go, and how far for each unit of the rate, once the moments know of the gradient."""
        raise NotImplementedError

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        self.remember(moments, grad)
        params -= np.float32(rate) * self.direction(moments, grad)


@dataclass(frozen=True)
class Sgd(Rule):
    """params -= rate * grad."""

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return grad


@dataclass(frozen=True)
class Momentum(Rule):
    """velocity = decay * velocity + grad; params -= rate * velocity."""

    decay: float = 0.9

    @property
    def decays(self) -> tuple[float, ...]:
        return (self.decay,)

    def remember(self, moments: np.ndarray, grad: np.ndarray) -> None:
        (velocity,) = moments
        velocity *= np.float32(self.decay)
        velocity += grad

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return moments[0]


@dataclass(frozen=True)
class RmsProp(Rule):
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
    def decays(self) -> tuple[float, ...]:
        return (self.decay, self.decay) if self.centred else (self.decay,)

    def remember(self, moments: np.ndarray, grad: np.ndarray) -> None:
        moments *= np.float32(self.decay)
        take = np.float32(1 - self.decay)
        moments[0] += take * (grad * grad)
        if self.centred:
            moments[1] += take * grad

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        spread, epsilon = moments[0], np.float32(self.epsilon)
        if self.centred:
            spread = np.maximum(spread - moments[1] * moments[1], np.float32(0))
        return grad / (np.sqrt(spread + epsilon) if self.epsilon_in_root else np.sqrt(spread) + epsilon)


@dataclass(frozen=True)
class Adam(Rule):
    """Adam (Kingma & Ba 2015) in the form at the end of their section 2: params -= rate * m / (root(v) + epsilon), the
    correction of both moments' bias being in the rate.

    The moments may be shared, the count of steps is each worker's own (Accelerated Methods' code): it gives the rule
    `corrected(rate, steps)`.
    """

    epsilon: float = 1e-5

    @property
    def decays(self) -> tuple[float, ...]:
        return BETA_1, BETA_2

    def remember(self, moments: np.ndarray, grad: np.ndarray) -> None:
        mean, square = moments
        mean *= np.float32(BETA_1)
        mean += np.float32(1 - BETA_1) * grad
        square *= np.float32(BETA_2)
        square += np.float32(1 - BETA_2) * (grad * grad)

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return moments[0] / (np.sqrt(moments[1]) + np.float32(self.epsilon))


@dataclass(frozen=True)
class AdaGrad(Rule):
    """g2 = g2 + grad^2; params -= rate * grad / (root of g2 + epsilon): steps shrink where gradients have been large.

    Duchi et al. 2011; of shared params, DistBelief's choice (Dean et al. 2012, section 4.1) and Gorila's.
    """

    epsilon: float = 1e-5

    @property
    def decays(self) -> tuple[float, ...]:
        return (1.0,)

    def remember(self, moments: np.ndarray, grad: np.ndarray) -> None:
        moments[0] += grad * grad

    def direction(self, moments: np.ndarray, grad: np.ndarray) -> np.ndarray:
        return grad / (np.sqrt(moments[0]) + np.float32(self.epsilon))


@dataclass(frozen=True)
class Merge:
    """Takes up what a worker did in several steps of its own: the sum of its changes to the params, and what its
    gradients alone left in each row of moments, [change | rows]. What the shared rows held shrinks as it would have in
    as many steps (Accelerated Methods' code for PPO).

    Check: with one worker, merging is what stepping on the shared params would have been, up to rounding.
    """

    decays: tuple[float, ...]
    steps: int

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        params += np.float32(rate) * grad[0]
        for row, decay, gathered in zip(moments, self.decays, grad[1:], strict=True):
            row *= np.float32(decay**self.steps)
            row += gathered


HostRule = Sgd | Momentum | RmsProp | Adam | AdaGrad


@dataclass(frozen=True)
class Apart:
    """One rule for several gradients of the same params, each with moments of its own: grad is [m, n], moments
    [m * k, n]. A gradient that is 0 throughout was not given: its moments stay as they are.

    Check: two gradients, one after the other, do what two rules would.
    """

    rule: HostRule
    gradients: int = 2

    @property
    def moments(self) -> int:
        """Rows of state of all of them."""
        return self.gradients * self.rule.moments

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        rows = self.rule.moments
        for number, one in enumerate(grad):
            if one.any():
                self.rule(params, moments[number * rows : (number + 1) * rows], one, rate)


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
        "adagrad": lambda: AdaGrad(epsilon),
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
    if not np.isfinite(grad).all():
        raise NonFiniteError(
            f"update {updates}: a worker's gradient is not finite; nothing of it was pushed; lower learning_rate or "
            "max_grad_norm, or check the environment's rewards and observations"
        )
    clipped, norm = clip_to(grad, max_grad_norm)
    return clipped, {**metrics, "grad_norm": norm}
