# SPDX-License-Identifier: Apache-2.0
"""Instruments for studies of batch size and update rule: norms by layer, gradient-noise scale, gradient diversity.

What large batches change is not the gradient but how far a run travels on it: how noisy gradients are says how large a
batch is worth its samples, and the norms say how far each layer moves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from shoal.losses.across import total
from shoal.types import Array

Watch = Callable[[Array, Array, Array], dict[str, Array]]
"""(params [P] before a step, gradient [P] before clipping, change [P]) -> metrics, traced by JAX"""


def watch_layers(layers: Mapping[str, tuple[int, int]], initial: Array) -> Watch:
    """A watch that gives, for every layer, the norm of its gradient, of its step, of its params and of the distance
    that these have come from `initial` [P].

    Args:
      layers: name -> (first, end) in the flat params.

    Check: the squares of the layers' norms add up to the square of the whole's.
    """
    start = jnp.asarray(initial)

    def watch(params: Array, grad: Array, change: Array) -> dict[str, Array]:
        after = params + change
        looked_at = {"grad_norm": grad, "step_norm": change, "param_norm": after, "distance": after - start}
        return {
            f"layer/{layer}/{name}": jnp.sqrt(jnp.sum(jnp.square(vector[first:end])))
            for layer, (first, end) in layers.items()
            for name, vector in looked_at.items()
        }

    return watch


def gradient_noise(share: Array, rows: Array) -> dict[str, Array]:
    """What the gradients of n shares of a batch say about noise: unbiased, from one small and one large batch size.

    With S the mean of |g_i|^2 over shares and L = |g|^2 of the whole batch's gradient, tr(Sigma) and |G|^2 solve
    S = |G|^2 + tr(Sigma) mean(1 / b_i) and L = |G|^2 + tr(Sigma) / b (McCandlish et al. 2018, arXiv 1812.06162,
    appendix A.1, here for shares of unequal size). Means of both over many updates, divided, are the noise scale:
    see `noise_scale`. Either may be negative in one update.

    Diversity is sum |g_i|^2 / |sum g_i|^2 (Yin et al. 2018, arXiv 1706.05699, definition 1), with shares as samples.

    To be traced within `losses.across`, once for each share.

    Args:
      share: [P] gradient of this share's part of the whole batch's mean loss, so that all shares add up to it.
      rows: valid rows b_i of this share.

    Check: with equal shares of b rows, n * diversity = (1 + B / b) / (1 + B / (n b)), B = tr(Sigma) / |G|^2.
    """
    rows = jnp.maximum(jnp.asarray(rows, jnp.float32), 1.0)
    shares, all_rows = total(jnp.ones(())), total(rows)
    own = share * (all_rows / rows)
    squares, large = total(jnp.sum(jnp.square(own))), jnp.sum(jnp.square(total(share)))
    per_share, per_batch = total(1.0 / rows) / shares, 1.0 / all_rows
    trace = (squares / shares - large) / (per_share - per_batch)
    diversity = squares / jnp.sum(jnp.square(total(own)))
    return {"noise/trace": trace, "noise/signal": large - trace * per_batch, "noise/diversity": diversity}


class Noise(NamedTuple):
    """A noise scale and what it is made of."""

    scale: float
    """rows from which on a larger batch pays less than its share"""
    trace: float
    """tr(Sigma): variance of one row's gradient, summed over params"""
    signal: float
    """|G|^2 of the true gradient"""


def noise_scale(traces: Sequence[float], signals: Sequence[float], decay: float = 0.0) -> Noise:
    """B_simple = tr(Sigma) / |G|^2 from estimates of many updates: both are averaged first, then divided, since the
    mean of ratios would be biased.

    Args:
      decay: of moving averages over the estimates, the newest weighing most; 0 weighs all alike.

    Check: scaling all gradients by c changes nothing. Infinite where no signal is left above the noise.
    """
    weights = np.ones(len(traces)) if not decay else decay ** np.arange(len(traces))[::-1]
    trace, signal = (float(np.average(values, weights=weights)) for values in (traces, signals))
    return Noise(trace / signal if signal > 0 else float("inf"), trace, signal)
