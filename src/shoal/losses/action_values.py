# SPDX-License-Identifier: Apache-2.0
"""Learning what actions are worth: values of the next observation for each kind of target, and the loss on them.

A target is `returns.n_step_returns` of rewards and one of these values [T+1, B] of all observations: so a row that
terminated has no future, one that was truncated bootstraps from the episode's real last observation, and nothing
crosses a reset row, whatever the value is. An action value of -inf marks an action that is not legal.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shoal.losses.policy_gradient import reduce
from shoal.losses.shapes import require_equal_shapes

Array = Any


class OffTarget(NamedTuple):
    """What is minimised, and how far each value was off."""

    loss: Array
    """scalar"""
    error: Array
    """[...] target minus value, 0 where nothing counts; without gradient: what priorities are made of"""


def of_action(q: Array, action: Array) -> Array:
    """Values [...] of actions [...] (int) among q [..., A].

    Check: over all actions these are q.
    """
    require_equal_shapes(action=action, q=q[..., 0])
    # selected by a mask, as in `Categorical.log_prob`: the gradient of a gather is a scatter, slow on CPU
    hit = jax.nn.one_hot(action, q.shape[-1], dtype=jnp.bool_)
    return jnp.sum(jnp.where(hit, q, 0.0), -1)


def greedy(q: Array) -> Array:
    """Value [...] of the best action of q [..., A]: Q-learning's (Watkins 1989).

    Check: with one legal action its value.
    """
    return jnp.max(q, -1)


def double(q: Array, chooser: Array) -> Array:
    """Value [...] in q [..., A] of the action that `chooser` [..., A] thinks best (van Hasselt et al. 2016, equation 4:
    the online values choose, the target's judge).

    Check: choosing by q itself it is `greedy`, otherwise never more.
    """
    require_equal_shapes(q=q, chooser=chooser)
    return of_action(q, jnp.argmax(chooser, -1))


def expected(q: Array, epsilon: Array) -> Array:
    """Value [...] of acting greedily but for a share `epsilon` of actions, drawn evenly from the legal ones: Expected
    Sarsa's (van Seijen et al. 2009, equation 6).

    Check: with epsilon 0 it is `greedy`, with 1 the mean over legal actions.
    """
    legal = q > -jnp.inf
    mean = jnp.sum(jnp.where(legal, q, 0.0), -1) / jnp.maximum(jnp.sum(legal, -1), 1).astype(q.dtype)
    return (1.0 - epsilon) * jnp.max(q, -1) + epsilon * mean


def sarsa(q: Array, action: Array, valid: Array, epsilon: Array) -> Array:
    """Values [T+1, B] of the actions taken next: Sarsa's (Rummery & Niranjan 1994).

    Where no next action was taken, in the last observation of the unroll and in that of an episode, it is the value
    that one has in the mean, `expected`: cut-off episodes keep their future and no row is lost.

    Args:
      q: [T+1, B, A].
      action: [T, B], int, taken on the observation of the row; any number where not valid.
      valid: [T, B] bool.
      epsilon: share of actions drawn at random.

    Check: where epsilon is 0 and every action was the best, it is `greedy`.
    """
    in_mean = expected(q, epsilon)
    taken = of_action(q[:-1], jnp.where(valid, action, 0))
    return jnp.concatenate([jnp.where(valid, taken, in_mean[:-1]), in_mean[-1:]])


def huber(error: Array, limit: float | None) -> Array:
    """Half the square of errors [...], growing on a line beyond `limit`: the same as clipping the error's gradient
    there (Mnih et al. 2015, methods). None: no limit.

    Check: below the limit both losses are the same, beyond it the gradient has its length.
    """
    size, square = jnp.abs(error), 0.5 * jnp.square(error)
    return square if limit is None else jnp.where(size <= limit, square, limit * (size - 0.5 * limit))


def weighed(loss: Array, weight: Array) -> Array:
    """Mean over rows of weight [N] times loss [N], as a scalar. Importance weights are at most 1, so they make steps
    shorter and never longer (Schaul et al. 2016, arXiv 1511.05952, section 3.4); divided by their sum they would not.

    Check: with all weights 1 the mean; rows of weight 0 change nothing, NaN included.
    """
    counts = weight > 0
    return reduce(jnp.where(counts, weight * jnp.where(counts, loss, 0.0), 0.0), counts)


def value_error(q: Array, action: Array, target: Array, weight: Array) -> OffTarget:
    """Weighted mean of the error of the values of actions, half its square.

    Args:
      q: [..., A]; carries the gradient.
      action, target: [...]; no gradient passes through the target.
      weight: [...], how much each row counts. At 0 a row changes nothing, whatever it holds.

    Check: with the target itself as value it is 0.
    """
    counts = jnp.asarray(weight).astype(jnp.bool_)
    value = jnp.where(counts, of_action(q, jnp.where(counts, action, 0)), 0.0)
    error = jnp.where(counts, jax.lax.stop_gradient(target) - value, 0.0)
    return OffTarget(reduce(huber(error, None), weight), jax.lax.stop_gradient(error))


def target_of(reward: Array, discount: Array, future: Array) -> Array:
    """reward + discount * future [...], without gradient; where nothing follows (discount 0) `future` may be anything.

    Check: with discount 0 the reward.
    """
    follows = discount > 0
    return jax.lax.stop_gradient(reward + jnp.where(follows, discount * jnp.where(follows, future, 0.0), 0.0))


RESCALE_EPSILON = 1e-3
"""of the linear part of `rescale`: without it the inverse would not be as smooth (Pohlen et al. 2018, section 3.2)"""


def rescale(x: Array) -> Array:
    """h(x) = sign(x) (root(|x| + 1) - 1) + epsilon x: returns of any size on one scale (Pohlen et al. 2018, arXiv
    1805.11593, proposition A.2; Kapturowski et al. 2019, section 2.3).

    Check: `unscale` gives x back.
    """
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + RESCALE_EPSILON * x


def unscale(y: Array) -> Array:
    """The inverse of `rescale`.

    Check: equals rlax's.
    """
    e = RESCALE_EPSILON
    root = (jnp.sqrt(1.0 + 4.0 * e * (jnp.abs(y) + 1.0 + e)) - 1.0) / (2.0 * e)
    return jnp.sign(y) * (jnp.square(root) - 1.0)
