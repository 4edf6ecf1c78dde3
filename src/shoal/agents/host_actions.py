# SPDX-License-Identifier: Apache-2.0
"""From policy heads to actions in NumPy, for every kind of action. Twin of `shoal.losses.distributions`."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from shoal.agents import host_math
from shoal.types import ActionSpec, Array, Discrete, MultiDiscrete


class HostActions(NamedTuple):
    """What can be done with heads [..., K] of one kind of action; `log_std` [K] is read for Box actions only."""

    sample: Callable[[Array, Array, Array | None], Array]
    """(head [B, K], noise [B, K], log_std) -> actions [B, ...]"""
    log_prob: Callable[[Array, Array, Array | None], Array]
    """(head [T, B, K], actions [T, B, ...], log_std) -> log-probabilities [T, B] in nats"""
    mode: Callable[[Array], Array]
    """head [B, K] -> the likeliest actions [B, ...]"""
    only_legal: Callable[[Array, Array], Array]
    """(head [B, K], mask [B, K]) -> head with -inf for what is illegal; discrete kinds only"""
    noise: Literal["gumbel", "normal"]


def host_actions(action: ActionSpec) -> HostActions:
    """The functions for one kind of action.

    Check: they equal the learner's distributions at 1e-5.
    """
    if isinstance(action, Discrete):
        return HostActions(
            sample=lambda head, noise, _: host_math.sample_categorical(head, noise),
            log_prob=lambda head, actions, _: host_math.log_prob_categorical(head, actions),
            mode=lambda head: head.argmax(-1),
            only_legal=host_math.only_legal,
            noise="gumbel",
        )
    if isinstance(action, MultiDiscrete):
        return _choices(action.sizes)
    shape = action.shape
    return HostActions(
        sample=lambda head, noise, log_std: host_math.sample_gaussian(head, log_std, noise).reshape(-1, *shape),
        log_prob=lambda head, actions, log_std: host_math.log_prob_gaussian(head, log_std, actions.reshape(head.shape)),
        mode=lambda head: head.reshape(-1, *shape),
        only_legal=_refuse_mask,
        noise="normal",
    )


def _choices(sizes: tuple[int, ...]) -> HostActions:
    def only_legal(head: Array, mask: Array) -> Array:
        pairs = zip(host_math.split_choices(head, sizes), host_math.split_choices(mask, sizes), strict=True)
        return np.concatenate([host_math.only_legal(logits, legal) for logits, legal in pairs], -1)

    return HostActions(
        sample=lambda head, noise, _: host_math.sample_choices(head, noise, sizes),
        log_prob=lambda head, actions, _: host_math.log_prob_choices(head, actions, sizes),
        mode=lambda head: host_math.sample_choices(head, np.zeros_like(head), sizes),
        only_legal=only_legal,
        noise="gumbel",
    )


def _refuse_mask(head: Array, mask: Array) -> Array:
    raise AssertionError("Box actions have no mask: environments that declare one are refused")
