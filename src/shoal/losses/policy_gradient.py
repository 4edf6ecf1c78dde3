# SPDX-License-Identifier: Apache-2.0
"""Losses to minimise, each a scalar from per-step arrays: policy gradient, PPO's surrogate, value, entropy.

Arrays may have any one shape, [T, B] or a minibatch [M], the same for all. `weight` says how much each element counts:
pass `valid` (bool) or a float. An element of weight 0 moves neither the loss nor any gradient, whatever it holds.

`reduction="mean"` divides by the sum of weights, so padding changes nothing; "sum" is what IMPALA's paper uses, and
then the step size depends on T and B.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from shoal.losses.across import total
from shoal.losses.shapes import require_equal_shapes

Array = Any
Reduction = Literal["mean", "sum"]


class Surrogate(NamedTuple):
    """PPO's loss and two signs of how far the update has gone."""

    loss: Array
    """scalar"""
    approx_kl: Array
    """scalar, nats: estimate of KL(acting policy, this policy); without gradient"""
    clip_frac: Array
    """scalar in [0, 1]: share of elements whose ratio has left [1 - clip, 1 + clip]; without gradient"""


def reduce(x: Array, weight: Array, reduction: Reduction = "mean") -> Array:
    """Weighted mean or sum of x as a scalar, over all shares of a batch that is spread; 0 if nothing has weight.

    Check: elements of weight 0 change nothing, NaN included.
    """
    require_equal_shapes(x=x, weight=weight)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r} is unknown; pass 'mean' or 'sum'")
    share = jnp.asarray(weight, jnp.result_type(x))
    whole = total(jnp.sum(share * _counted(x, weight)))
    if reduction == "sum":
        return whole
    norm = total(jnp.sum(share))
    return whole / jnp.where(norm > 0, norm, 1.0)


def normalise(advantage: Array, weight: Array, epsilon: float = 1e-8) -> Array:
    """Shift and scale advantages to weighted mean 0 and variance 1; 0 where weight is 0.

    Check: unchanged by advantage -> a * advantage + b, a > 0.
    """
    centred = _counted(advantage - reduce(advantage, weight), weight)
    return centred / (jnp.sqrt(reduce(jnp.square(centred), weight)) + epsilon)


def policy_gradient_loss(log_prob: Array, advantage: Array, weight: Array, reduction: Reduction = "mean") -> Array:
    """Minus the advantage-weighted log-probability of the actions taken, scalar.

    Sutton et al. 2000, theorem 1, on samples: the gradient is -E[A grad log pi(a|s)].

    Args:
      log_prob: log-probability of the action under this policy; carries the gradient.
      advantage: of the action, in reward units; no gradient passes through it.
      weight: how much each element counts.

    Check: on log-softmax the gradient to the logits is A (pi - onehot(action)).
    """
    require_equal_shapes(log_prob=log_prob, advantage=advantage, weight=weight)
    return -reduce(_counted(log_prob, weight) * _constant(advantage, weight), weight, reduction)


def clipped_surrogate(
    log_prob: Array,
    old_log_prob: Array,
    advantage: Array,
    weight: Array,
    *,
    clip: float | Array,
    reduction: Reduction = "mean",
) -> Surrogate:
    """PPO's policy loss: no reward for moving the ratio beyond 1 +- clip.

    Schulman et al. 2017 (arXiv 1707.06347), equation 7: -E[min(r A, clip(r, 1 - clip, 1 + clip) A)].

    Args:
      log_prob: log-probability of the action under this policy; carries the gradient.
      old_log_prob: log-probability of the action under the policy that acted.
      advantage: of the action, in any unit; no gradient passes through it.
      weight: how much each element counts.
      clip: epsilon, above 0.

    Check: where both policies agree the gradient is that of `policy_gradient_loss`.
    """
    require_equal_shapes(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, weight=weight)
    log_ratio = _counted(log_prob, weight) - _constant(old_log_prob, weight)
    advantage = _constant(advantage, weight)
    ratio = jnp.exp(log_ratio)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
    left = jnp.asarray(jnp.abs(ratio - 1) > clip, ratio.dtype)
    watched = jax.lax.stop_gradient(log_ratio)
    return Surrogate(-reduce(gain, weight, reduction), reduce(kl_from_log_ratio(watched), weight), reduce(left, weight))


def kl_from_log_ratio(log_ratio: Array) -> Array:
    """Per-sample estimate of KL(acting, learning) in nats: unbiased, never negative, of low variance.

    Schulman 2020, "Approximating KL divergence", k3 = (r - 1) - log r, for actions drawn from the acting policy.

    Args:
      log_ratio: log-probability under the learning policy minus that under the acting policy, any shape.

    Check: its expectation over the acting policy's actions is the exact KL.
    """
    return jnp.expm1(log_ratio) - log_ratio


def value_loss(
    value: Array,
    target: Array,
    weight: Array,
    *,
    old_value: Array | None = None,
    clip: float | Array | None = None,
    reduction: Reduction = "mean",
) -> Array:
    """Half the squared error between value and target, scalar; with `clip`, the worse of clipped and plain.

    The clipped form is that of PPO's reference code: the value may move at most `clip` from `old_value` for free.

    Args:
      value: carries the gradient, in reward units.
      target: what the value should be; no gradient passes through it.
      weight: how much each element counts.
      old_value: value when the data was collected; needed with `clip`.
      clip: above 0, in reward units, or None for the plain loss.

    Check: the gradient of the plain sum is value - target.
    """
    require_equal_shapes(value=value, target=target, weight=weight)
    if (clip is None) != (old_value is None):
        raise ValueError("clip and old_value belong together; pass both for the clipped loss or neither")
    value, target = _counted(value, weight), _constant(target, weight)
    error = jnp.square(value - target)
    if old_value is not None and clip is not None:
        require_equal_shapes(value=value, old_value=old_value)
        anchor = _constant(old_value, weight)
        error = jnp.maximum(error, jnp.square(anchor + jnp.clip(value - anchor, -clip, clip) - target))
    return 0.5 * reduce(error, weight, reduction)


def entropy_loss(entropy: Array, weight: Array, reduction: Reduction = "mean") -> Array:
    """Minus the policy's entropy in nats, scalar: adding a little of it keeps the policy from settling early.

    Williams & Peng 1991; Mnih et al. 2016 (arXiv 1602.01783), section 4.

    Check: a uniform policy over n actions gives -log n.
    """
    return -reduce(_counted(entropy, weight), weight, reduction)


def explained_variance(value: Array, target: Array, weight: Array) -> Array:
    """Share of the target's variance that the value predicts: 1 is perfect, 0 no better than a constant.

    NaN where the target does not vary. Without gradient.

    Check: value = target gives 1; a constant gives 0.
    """
    value, target = _constant(value, weight), _constant(target, weight)

    def variance(x: Array) -> Array:
        return reduce(jnp.square(x - reduce(x, weight)), weight)

    spread = variance(target)
    return 1.0 - variance(target - value) / jnp.where(spread > 0, spread, jnp.nan)


def _counted(x: Array, weight: Array) -> Array:
    # selected before any arithmetic: 0 * NaN is NaN, in the loss and in its gradient
    return jnp.where(jnp.asarray(weight).astype(bool), x, 0.0)


def _constant(x: Array, weight: Array) -> Array:
    return jax.lax.stop_gradient(_counted(x, weight))
