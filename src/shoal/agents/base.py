# SPDX-License-Identifier: Apache-2.0
"""The Agent record: everything an algorithm computes, and nothing about who runs it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from shoal.types import Array, PyTree, Trajectory


class Agent(NamedTuple):
    """Pure functions over flat params [P] float32, bound to one environment's shapes.

    Params are one vector so that they travel, average and update as one array; `bind` turns them into whatever form
    `act` is quickest with (views of the vector for NumPy, a device array for JAX) once per unroll, not per step.
    """

    init: Callable[[int], Array]
    """seed -> params [P]"""
    memory: Callable[[int], PyTree]
    """number of environments -> initial recurrent memory, () where there is none"""
    bind: Callable[[Array], Any]
    """params [P] -> bound params for `act`"""
    act: Callable[[Any, Array, PyTree, Array], tuple[Array, Array, PyTree]]
    """(bound, obs [B, ...], memory, noise [B, noise_size]) -> (action [B, ...], head [B, K], memory)"""
    log_prob: Callable[[Any, Array, Array], Array]
    """(bound, head [T, B, K], action [T, B, ...]) -> log-probabilities [T, B]; NumPy, once per unroll"""
    mode: Callable[[Array], Array]
    """head [B, K] -> the likeliest action [B, ...]"""
    prepare: Callable[[Array, Trajectory], Any]
    """(params [P], trajectory) -> what `loss` trains on; traced by JAX inside the update"""
    loss: Callable[[Array, Any], tuple[Array, dict[str, Array]]]
    """(params [P], prepared batch) -> (loss, metrics); traced by JAX inside the update"""
    noise: Literal["gumbel", "normal"]
    """the distribution of the noise that `act` expects"""
    noise_size: int
    """noise numbers per environment and step"""
    sees_frames: bool
    """networks over frames run slower inside a scan on the CPU: learners then loop outside the compiled update"""
