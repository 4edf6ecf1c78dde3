# SPDX-License-Identifier: Apache-2.0
"""Running mean and variance of observations and returns, kept in the tail of the flat params.

There they travel to the actors, into checkpoints and into exports with no further code. The learner merges each batch
after its gradient steps, so that what a batch is trained under is what it was acted under. [network | statistics].
"""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shoal.errors import ConfigError
from shoal.losses.across import total
from shoal.trees import tree_leaves, tree_map, tree_paths
from shoal.types import Array, ArraySpec, EnvSpec, PyTree, Trajectory

LIMIT = 10.0
"""normalised observations and rewards are cut off beyond this many deviations"""
EPSILON = 1e-8
"""added to variances, so that what never changes is divided by something"""


class Place(NamedTuple):
    """An entry of an observation and where its statistics lie."""

    path: tuple[str | int, ...]
    size: int
    """numbers in it"""
    moments: tuple[int, int] | None
    """where in the params its means and its variances begin; None for what is not normalised"""


class Statistics:
    """Where count, means and variances lie after `size_before` network params, and what is done with them.

    Observations are centred and scaled number by number, all but masks, bits and frames, which networks scale
    themselves. Rewards are divided by the deviation of the discounted sum of rewards (Engstrom et al. 2020, "What
    Matters in Deep RL", section 2: VecNormalize's reward scaling); their mean stays.

    Check: merging batches one by one gives mean and variance of all their rows together.
    """

    def __init__(self, spec: EnvSpec, size_before: int, *, obs: bool, reward: bool):
        counted = [obs and normalisable(leaf) for leaf in tree_leaves(spec.obs)]
        sizes = [math.prod(leaf.shape) for leaf in tree_leaves(spec.obs)]
        ends = np.cumsum(np.where(counted, sizes, 0)).tolist()
        self.numbers = ends[-1]
        self._spec, self._reward = spec, reward
        self._parts = [
            slice(end - n, end) if is_in else None for end, n, is_in in zip(ends, sizes, counted, strict=True)
        ]
        """of the means, for each leaf"""
        self._obs_at = size_before
        self._reward_at = size_before + (1 + 2 * self.numbers if self.numbers else 0)
        self.size = self._reward_at + 3 * reward - size_before

    def initial(self) -> np.ndarray:
        """[size]: nothing counted, mean 0, variance 1."""
        ones = np.ones(self.numbers, np.float32)
        obs = np.concatenate([[0], 0 * ones, ones]) if self.numbers else np.zeros(0)
        return np.concatenate([obs, [0, 0, 1] if self._reward else []]).astype(np.float32)

    def places(self) -> list[Place]:
        """The entries of an observation, maskless, in order."""
        mean_at = self._obs_at + 1
        leaves = zip(tree_paths(self._spec.obs), tree_leaves(self._spec.obs), self._parts, strict=True)
        return [
            Place(
                path,
                math.prod(leaf.shape),
                None if part is None else (mean_at + part.start, mean_at + self.numbers + part.start),
            )
            for path, leaf, part in leaves
        ]

    def normalise(self, params: Array, obs: PyTree) -> PyTree:
        """Observations [..., *shape] centred, scaled and cut off; traced by JAX."""
        if not self.numbers:
            return obs
        mean, variance = self._moments(jax.lax.stop_gradient(params))
        factor = jax.lax.rsqrt(variance + EPSILON)
        parts = iter(self._parts)

        def one(spec: ArraySpec, leaf: Array) -> Array:
            part = next(parts)
            if part is None:
                return leaf
            centred = leaf.astype(jnp.float32) - mean[part].reshape(spec.shape)
            return jnp.clip(centred * factor[part].reshape(spec.shape), -LIMIT, LIMIT)

        return tree_map(one, self._spec.obs, obs)

    def scale_reward(self, params: Array, reward: Array) -> Array:
        """Rewards in deviations of the discounted return, cut off; as they are while that has never varied."""
        if not self._reward:
            return reward
        variance = jax.lax.stop_gradient(params)[self._reward_at + 2]
        return jnp.clip(reward * jnp.where(variance > 0, jax.lax.rsqrt(variance + EPSILON), 1.0), -LIMIT, LIMIT)

    def merge(self, params: Array, batch: Trajectory, obs: PyTree) -> Array:
        """Params whose statistics include the valid rows of a batch; `obs` [T+1, B, ...] are its, without mask."""
        valid = jnp.ravel(batch.valid)
        if self.numbers:
            leaves = zip(self._parts, tree_leaves(obs), strict=True)
            rows = [leaf[:-1].reshape(valid.size, -1).astype(jnp.float32) for part, leaf in leaves if part is not None]
            moments = slice(self._obs_at, self._obs_at + 1 + 2 * self.numbers)
            params = params.at[moments].set(merged(params[moments], jnp.concatenate(rows, -1), valid))
        if self._reward:
            moments = slice(self._reward_at, self._reward_at + 3)
            returns = jnp.reshape(batch.discounted_return, (valid.size, 1))
            params = params.at[moments].set(merged(params[moments], returns, valid))
        return params

    def _moments(self, params: Array) -> tuple[Array, Array]:
        mean_at = self._obs_at + 1
        return params[mean_at : mean_at + self.numbers], params[mean_at + self.numbers : mean_at + 2 * self.numbers]


def normalised_spec(spec: EnvSpec) -> EnvSpec:
    """The spec of maskless observations after `Statistics.normalise`.

    Raises:
      ConfigError: there is nothing to normalise.
    """
    if not any(normalisable(leaf) for leaf in tree_leaves(spec.obs)):
        raise ConfigError(
            f"normalise_obs=True changes nothing in {spec.id}: frames are scaled in the network, bits stay; set it "
            "to false"
        )
    return replace(
        spec, obs=tree_map(lambda leaf: replace(leaf, dtype="float32") if normalisable(leaf) else leaf, spec.obs)
    )


def normalisable(leaf: ArraySpec) -> bool:
    """Whether a leaf of an observation is numbers whose scale nobody knows: no bits, no frames."""
    is_frames = len(leaf.shape) == 3 and leaf.dtype == "uint8"
    return np.dtype(leaf.dtype).kind in "fiu" and not is_frames


def merged(moments: Array, rows: Array, weight: Array) -> Array:
    """[count | mean [n] | variance [n]] with the rows [N, n] of weight True added, over all shares of a batch that is
    spread (Chan et al. 1979, equation 2.1).

    Shares instead of sums, so that float32 stays exact enough however many rows there were.

    Check: in any order and in any parts, the result is the mean and variance of all rows.
    """
    count, mean, variance = moments[0], *jnp.split(moments[1:], 2)
    added = total(jnp.sum(weight, dtype=jnp.float32))
    new_mean = total(jnp.sum(jnp.where(weight[:, None], rows, 0.0), 0)) / jnp.maximum(added, 1.0)
    deviation = jnp.where(weight[:, None], rows - new_mean, 0.0)
    new_variance = total(jnp.sum(jnp.square(deviation), 0)) / jnp.maximum(added, 1.0)
    share = added / jnp.maximum(count + added, 1.0)
    gap = new_mean - mean
    variance = (1 - share) * variance + share * new_variance + share * (1 - share) * jnp.square(gap)
    return jnp.concatenate([jnp.stack([count + added]), mean + share * gap, variance])
