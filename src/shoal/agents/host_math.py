# SPDX-License-Identifier: Apache-2.0
"""Sampling and log-probabilities in NumPy, for actors that act on the host without JAX.

Twins of `shoal.losses.distributions`; a test holds the two together. One call takes a few microseconds where a jitted
function takes tens. Policies and actions as there: logits [..., A], mean and noise [..., D], leading axes any.
"""

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
