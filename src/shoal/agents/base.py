# SPDX-License-Identifier: Apache-2.0
"""What an algorithm computes, and nothing about who runs it: the part that acts, and the whole with what it learns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from shoal.types import Array, PyTree, Trajectory


class Judged(NamedTuple):
    """What a policy that values actions held of those it took."""

    taken: Array
    """[T, B] value of the action taken"""
    best: Array
    """[T, B] value of the action that it held for the best"""


class Part(NamedTuple):
    """Some of the flat params, with a step size of their own."""

    first: int
    end: int
    rate: float = 1.0
    """times the learning rate"""
    every: int = 1
    """steps of the learner for each of theirs"""


class Replayed(NamedTuple):
    """How an agent learns from what a replay memory draws."""

    loss: Callable[[Array, Array, Any, Array], tuple[Any, tuple[Array, dict[str, Any]]]]
    """(params [P], params [P] that targets are made with, a `Batch` or `Sequences`, key) -> (loss, (error, metrics));
    traced by JAX. `error` [N] says how far each row was off, without gradient: what it is drawn by. The `key` is for
    noise"""
    parts: tuple[Part, ...] = ()
    """what has an optimiser of its own; () where one serves all params"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Acting:
    """How to act with flat params [P] float32, bound to one environment's shapes: all that an actor needs.

    Params are one vector so that they travel, average and update as one array; `bind` turns them into whatever form
    `act` is quickest with (views of the vector for NumPy, a device array for JAX) once per unroll, not per step.
    """

    memory: Callable[[int], PyTree]
    """number of environments -> recurrent memory at the start of their episodes [B, ...], () where there is none"""
    bind: Callable[[Array], Any]
    """params [P] -> bound params for `act`"""
    act: Callable[[Any, PyTree, PyTree, Array], tuple[Array, Array, PyTree]]
    """(bound, obs [B, ...], memory, noise [B, noise_size]) -> (action [B, ...], head [B, K], memory). Heads of masked
    environments hold -inf for illegal actions. Memory is new: what is passed in stays as it is"""
    log_prob: Callable[[Any, Array, Array], Array]
    """(bound, head [T, B, K], action [T, B, ...]) -> log-probabilities [T, B]; NumPy, once per unroll"""
    mode: Callable[[Array], Array]
    """head [B, K] -> the likeliest action [B, ...]"""
    noise: Literal["gumbel", "normal"]
    """the distribution of the noise that `act` expects"""
    noise_size: int
    """noise numbers per environment and step"""
    head_size: int
    """numbers in a head (K)"""
    device: Any = None
    """the JAX device that acts, where it has to be a certain one"""
    recurrent: bool = False
    """whether memory is carried from step to step; it starts anew after each reset row"""
    compiled: bool = False
    """whether `act` is compiled anew for every other number of rows"""
    judge: Callable[[Any, PyTree, Array, Array], Judged] | None = None
    """(bound, obs [T, B, ...], action [T, B, ...], head [T, B, K]) -> what these params held of the actions; NumPy,
    once per unroll. None where the policy knows no value of actions"""


AnyActing = TypeVar("AnyActing", bound=Acting)


@dataclass(frozen=True, kw_only=True, eq=False)
class Agent(Acting):
    """The pure functions of an algorithm: how it acts, on the host and within compiled code, and how it learns."""

    init: Callable[[int], Array]
    """seed -> params [P]"""
    policy: Callable[[Array, PyTree, PyTree], tuple[Any, PyTree]]
    """(params [P], obs [N, ...], memory [N, ...]) -> (distribution, memory); traced by JAX. The distribution has
    `sample(noise [N, noise_size])`, `log_prob`, `entropy` and `mode`; Box actions are flat there, [N, D]"""
    prepare: Callable[[Array, Trajectory], Any]
    """(params [P], trajectory) -> what `loss` trains on, traced by JAX inside the update. Arrays of what is cut into
    minibatches lead with the axis that is cut: rows, or environments where memory is carried"""
    loss: Callable[[Array, Any], tuple[Array, dict[str, Array]]]
    """(params [P], prepared batch) -> (loss, metrics); traced by JAX inside the update"""
    observe: Callable[[Array, Trajectory], Array]
    """(params [P], trajectory) -> params with running statistics of observations and rewards brought up to date;
    traced by JAX at the end of the update"""
    layers: dict[str, tuple[int, int]]
    """name -> (first, end) of the layer in the flat params; running statistics belong to none"""
    sees_frames: bool
    """networks over frames run slower inside a scan on the CPU: learners then loop outside the compiled update"""
    replayed: Replayed | None = None
    """how to learn from a replay memory; None where all is learnt from once"""
    plan: dict[str, Any] | None = None
    """how to act in NumPy, in words and numbers (`host_policy.Plan`); None where it takes JAX"""
