# SPDX-License-Identifier: Apache-2.0
"""The two things that travel: a Trajectory one way, versioned params the other. NumPy only, no JAX.

Arrays are time first: [T, B, ...] with T steps of B environments.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

PyTree = Any
Array = Any


class Trajectory(NamedTuple):
    """What an actor hands on: T steps of B environments, time first.

    Environments reset on the step *after* an episode ends (Gymnasium's NEXT_STEP): where row t has ended, obs[t+1]
    is the episode's final observation, row t+1 only resets (valid is False there, its action was ignored and its
    reward is 0), and obs[t+2] opens the next episode. Environments that wait with their reset until the batch is over
    repeat the final observation in more such rows; the last of them resets. A row that is truncated and not valid lost
    its environment: its obs[t+1] is the last one known, and no episode finished. Rewards are raw: clipping and scaling
    are the learner's.
    """

    obs: PyTree
    """[T+1, B, ...]; the last row is for bootstrapping"""
    action: PyTree
    """[T, B, ...]"""
    reward: Array
    """[T, B] float32, as the environment gave it"""
    terminated: Array
    """[T, B] bool: the task ended; the future is worth nothing"""
    truncated: Array
    """[T, B] bool: we stopped watching; the future still has value"""
    valid: Array
    """[T, B] bool: False where the step only reset the environment"""
    log_prob: Array
    """[T, B] float32: log-probability of the action under the acting params"""
    memory: PyTree
    """[B, ...] recurrent memory before row 0, or ()"""
    version: Array
    """[B] int64: version of the acting params"""
    episode_return: Array
    """[T, B] float32: undiscounted raw return of the episode that ended in this row, NaN elsewhere"""
    episode_length: Array
    """[T, B] int32: agent steps of the episode that ended in this row, 0 elsewhere"""
    discounted_return: Array = ()
    """[T, B] float32: discounted sum of the episode's raw rewards up to and with this row, or () where nobody asks:
    the learner scales rewards by its deviation where `normalise_reward` is on"""


class Transitions(NamedTuple):
    """What an actor hands to a replay memory: T steps of B environments, each row a complete n-step transition.

    Row t leads from obs[t] to obs[t + steps[t]], its own environment's, so that observations travel once although each
    is seen twice; the last n of them come again with the next message. Rewards are those that are learnt from, scaled
    and clipped step by step, since a clipped sum is another number. `valid` is False where a step only reset, and
    where an environment was lost: such rows keep their place and are never drawn.
    """

    obs: PyTree
    """[T+n, B, ...]"""
    action: Array
    """[T, B, ...]"""
    reward: Array
    """[T, B] float32: discounted sum over `steps` steps"""
    discount: Array
    """[T, B] float32: discount ** steps, and 0 where the task terminated within them"""
    steps: Array
    """[T, B] int32: 1 .. n; fewer than n only where the episode ends"""
    valid: Array
    """[T, B] bool"""
    version: Array
    """[B] int64: version of the acting params"""
    stream: Array
    """[B] int64: the environments, counted over all actors; rows of one are put in order"""
    priority: Array = ()
    """[T, B] float32: |n-step temporal-difference error| by the values that acted, or () where nobody asks"""


class Batch(NamedTuple):
    """What a replay memory draws: N transitions in no order, or K minibatches of them [K, N, ...] in one message."""

    obs: PyTree
    """[N, ...]"""
    action: Array
    """[N, ...]"""
    reward: Array
    """[N] float32"""
    discount: Array
    """[N] float32: what the value of `next_obs` counts"""
    next_obs: PyTree
    """[N, ...]"""
    weight: Array
    """[N] float32: importance weights, at most 1; 1 where rows are drawn evenly"""
    key: Array
    """[N] int64: names the row to the memory it came from, for new priorities"""
    version: Array
    """[N] int64: version of the params that acted"""


class Sequences(NamedTuple):
    """Unrolls as items of a replay memory, where memory is carried: what an actor hands on, and what is drawn."""

    steps: Trajectory
    """[L, N, ...] with the memory before row 0; rows after an episode's end are not valid"""
    weight: Array
    """[N] float32; 1 on the way in"""
    key: Array
    """[N] int64; () on the way in"""
    priority: Array
    """[N] float32 on the way in; () on the way out"""


class Versioned(NamedTuple):
    """Params and how many publishes came before them; 0 is the initial set."""

    params: PyTree
    version: int


@dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one environment's observation, without time and batch."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Discrete:
    """Actions 0 .. n-1, the same for agent and environment."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action: a single number."""
        return ()

    @property
    def head_size(self) -> int:
        """Numbers in a policy head: a logit for each action."""
        return self.n

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """The action itself."""
        return action


@dataclass(frozen=True)
class Box:
    """Real-valued actions. Agents act on the unit scale; `to_env` maps onto the environment's bounds."""

    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def head_size(self) -> int:
        """Numbers in a policy head: a mean for each dimension."""
        return math.prod(self.shape)

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """Map unit-scale actions [..., *shape] onto [low, high], clipping; unbounded sides pass through.

        Check: -1 maps to low and 1 to high.
        """
        low, high, middle, half = self.bounds
        return np.clip(middle + half * np.asarray(action, np.float32), low, high)

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """low, high, middle and half width [*shape], made once: `to_env` runs every step."""
        low = np.asarray(self.low, np.float32).reshape(self.shape)
        high = np.asarray(self.high, np.float32).reshape(self.shape)
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle = np.where(bounded, (low + high) / 2, np.float32(0))
            half = np.where(bounded, (high - low) / 2, np.float32(1))
        return low, high, middle, half


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once: choice i is one of 0 .. sizes[i]-1. Actions are whole numbers [len(sizes)]."""

    sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action: a number for each choice."""
        return (len(self.sizes),)

    @property
    def head_size(self) -> int:
        """Numbers in a policy head: a logit for each value of each choice, one choice after the other."""
        return sum(self.sizes)

    def to_env(self, action: np.ndarray) -> np.ndarray:
        """The action itself."""
        return action


ActionSpec = Discrete | MultiDiscrete | Box
ObsSpec = PyTree
"""an ArraySpec, a dict of them by name, or a tuple of them; nested at will"""

ACTION_MASK = "action_mask"
"""the entry of a dict observation that says which actions are legal: bool [n], or [sum of sizes] for MultiDiscrete"""


@dataclass(frozen=True)
class EnvSpec:
    """What one environment takes and gives."""

    id: str
    obs: ObsSpec
    action: ActionSpec
    max_episode_steps: int | None = None

    @property
    def masked(self) -> bool:
        """Whether observations say which actions are legal."""
        obs: PyTree = self.obs
        return type(obs) is dict and ACTION_MASK in obs

    @property
    def seen(self) -> "EnvSpec":
        """This spec without the mask: what networks are built for."""
        return replace(self, obs=without_mask(self.obs)) if self.masked else self

    @property
    def shows_frames(self) -> bool:
        """Whether the observation is nothing but images: three axes of bytes."""
        return isinstance(self.obs, ArraySpec) and len(self.obs.shape) == 3 and self.obs.dtype == "uint8"


def without_mask(obs: PyTree) -> PyTree:
    """A masked observation, or its spec, without the mask: what networks are called on.

    Check: what is left has every other entry.
    """
    return {name: part for name, part in obs.items() if name != ACTION_MASK}


class Steps(NamedTuple):
    """What `recv` returns: one row per environment that answered. Arrays are the receiver's until its next `recv`."""

    slots: Array
    """[N] int: which environments these rows belong to"""
    obs: PyTree
    """[N, ...]"""
    reward: Array
    """[N] float32"""
    terminated: Array
    """[N] bool"""
    truncated: Array
    """[N] bool"""
    valid: Array
    """[N] bool: False where the step only reset the environment"""
