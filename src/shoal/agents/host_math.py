# SPDX-License-Identifier: Apache-2.0
"""Sampling and log-probabilities in NumPy, for actors that act on the host without JAX.

Twins of `shoal.losses.distributions`; a test holds the two together. One call takes a few microseconds where a jitted
function takes tens. Policies and actions as there: logits [..., A], mean and noise [..., D], leading axes any.
"""

import itertools
import math

import numpy as np

_HALF_LOG_2PI = np.float32(0.5 * math.log(2 * math.pi))


def sample_categorical(logits: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Actions [...] int64 drawn with standard Gumbel noise [..., A].

    Check: equals `Categorical(logits).sample(noise)`.
    """
    return (logits + noise).argmax(-1)


def log_prob_categorical(logits: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Log-probability in nats of action [...] (int) under logits [..., A], [...].

    Check: equals `Categorical(logits).log_prob(action)`.
    """
    top = logits.max(-1, keepdims=True)
    shifted = logits - top
    norm = np.log(np.exp(shifted).sum(-1))
    return np.take_along_axis(shifted, np.asarray(action)[..., None], -1)[..., 0] - norm


def only_legal(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits [..., A] with -inf where mask [..., A] forbids the action; a mask that allows nothing forbids nothing.

    Check: equals the learner's `only_legal`.
    """
    nothing = ~mask.any(-1, keepdims=True)
    return np.where(mask | nothing if nothing.any() else mask, logits, np.float32(-np.inf))


def split_choices(logits: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """[..., sum of sizes] as one view [..., sizes[i]] for each choice."""
    ends = list(itertools.accumulate(sizes))
    return [logits[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]


def sample_choices(logits: np.ndarray, noise: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Actions [..., len(sizes)] int64 drawn with standard Gumbel noise, logits and noise [..., sum of sizes].

    Check: equals `MultiCategorical.sample`.
    """
    return np.stack([part.argmax(-1) for part in split_choices(logits + noise, sizes)], -1)


def log_prob_choices(logits: np.ndarray, action: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Log-probability in nats of action [..., len(sizes)] (int) under logits [..., sum of sizes], [...].

    Check: equals `MultiCategorical.log_prob`.
    """
    parts = split_choices(logits, sizes)
    return np.sum([log_prob_categorical(part, action[..., i]) for i, part in enumerate(parts)], 0)


def sample_gaussian(mean: np.ndarray, log_std: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Actions [..., D] drawn with standard normal noise [..., D]; log_std [..., D] or [D].

    Check: equals `DiagGaussian(mean, log_std).sample(noise)`.
    """
    return mean + np.exp(log_std) * noise


def log_prob_gaussian(mean: np.ndarray, log_std: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Log-density in nats of action [..., D] under mean [..., D] and log_std [..., D] or [D], [...].

    Check: equals `DiagGaussian(mean, log_std).log_prob(action)`.
    """
    z = (action - mean) * np.exp(-log_std)
    return -(0.5 * z * z + log_std + _HALF_LOG_2PI).sum(-1)
