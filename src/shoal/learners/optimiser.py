# SPDX-License-Identifier: Apache-2.0
"""One optimiser step on flat params: clip, rule, step, and one flag that says whether every number is finite."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from shoal.errors import NonFiniteError
from shoal.learners.instruments import Watch
from shoal.types import Array


class Optimiser(NamedTuple):
    """`init(params) -> moments`; `step(params, moments, grad, learning_rate) -> (params, moments, metrics)`."""

    init: Callable[[Array], Any]
    step: Callable[[Array, Any, Array, Array], tuple[Array, Any, dict[str, Array]]]


def make_optimiser(  # noqa: PLR0913 the settings of a rule, all by name
    name: str,
    *,
    epsilon: float,
    decay: float,
    max_grad_norm: float,
    centred: bool = False,
    epsilon_in_root: bool = False,
    watch: Watch | None = None,
) -> Optimiser:
    """Adam, RMSProp, SGD with momentum or plain SGD, after clipping by the global norm.

    RMSProp divides by root(g2) + epsilon, as PyTorch does, or with `epsilon_in_root` by root(g2 + epsilon), as
    TensorFlow does. At epsilon 0.1, as in IMPALA's paper, those are different rules: where gradients are small the
    divisor is 0.1 in one and 0.32 in the other. Where centred, g2 is the gradients' variance, not their mean square.

    A step that would leave the finite numbers changes nothing and sets `finite` to 0 in the metrics.

    Args:
      decay: of RMSProp's second moment, or of momentum's velocity.
      watch: gives further metrics of every step.

    Check: with max_grad_norm large and rule sgd, step_norm = learning_rate * grad_norm.
    """
    scale_by_rms = optax.scale_by_stddev if centred else optax.scale_by_rms
    rules = {
        "adam": lambda: optax.scale_by_adam(eps=epsilon),
        "rmsprop": lambda: scale_by_rms(decay=decay, eps=epsilon, eps_in_sqrt=epsilon_in_root),
        "momentum": lambda: optax.trace(decay=decay),
        "sgd": lambda: optax.identity(),
    }
    rule = rules[name]()

    def step(params: Array, moments: Any, grad: Array, learning_rate: Array) -> tuple[Array, Any, dict[str, Array]]:
        norm = jnp.sqrt(jnp.sum(grad * grad))
        clipped = grad * jnp.minimum(1.0, max_grad_norm / (norm + 1e-12))
        direction, new_moments = rule.update(clipped, moments, params)
        change = -learning_rate * direction
        finite = jnp.isfinite(norm) & jnp.isfinite(jnp.sum(change))
        stepped, before = (params + change, new_moments), (params, moments)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, before)
        step_norm = jnp.sqrt(jnp.sum(change * change))
        watched = watch(params, grad, change) if watch else {}
        return *kept, {"grad_norm": norm, "step_norm": step_norm, "finite": finite.astype(jnp.float32), **watched}

    return Optimiser(rule.init, step)


def refuse_non_finite(metrics: dict[str, float], updates: int) -> dict[str, float]:
    """The metrics without `finite`. Raises NonFiniteError naming the update and what overflowed."""
    if metrics.pop("finite") < 1.0:
        # explained variance is NaN wherever targets do not vary: that is no fault
        looked_at = {k: v for k, v in metrics.items() if k != "loss/explained_variance"}
        bad = [k for k, v in looked_at.items() if not abs(v) < float("inf")] or ["a step"]
        raise NonFiniteError(
            f"update {updates}: {', '.join(bad)} is not a finite number; params were kept as they were; lower "
            "learning_rate or max_grad_norm, or check the environment's rewards and observations"
        )
    return metrics
