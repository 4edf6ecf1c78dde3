# SPDX-License-Identifier: Apache-2.0
"""Randomness as a pure function: one root seed, named streams, an index and a step give the same numbers anywhere.

No generator state is carried, so the layout of actors and environments changes nothing and nothing needs saving.
"""

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection of 64-bit words. Overflow is meant."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))


def _word(seed: int, stream: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        root = np.uint64(seed % 2**64) * _GOLDEN + np.uint64(zlib.crc32(stream.encode()))
        return _mix(_mix(np.atleast_1d(root)) + _GOLDEN)


def derive(seed: int, stream: str, index: int = 0) -> int:
    """A 31-bit seed for one named stream and index.

    Check: other seeds, streams and indices give other numbers.
    """
    with np.errstate(over="ignore"):
        word = _mix(_word(seed, stream) ^ _mix(np.atleast_1d(np.uint64(index)) * _GOLDEN))
    return int(word[0] >> np.uint64(33))


def uniforms(seed: int, stream: str, indices: np.ndarray, first_step: int, steps: int, size: int) -> np.ndarray:
    """Uniform numbers in (0, 1), float32 [steps, len(indices), size].

    Args:
      indices: [B] environment indices, counted over all actors.
      first_step: steps these environments took before row 0.

    Check: two calls over halves of the steps, or of the indices, join to the call over the whole.
    """
    words = _words(seed, stream, indices, first_step, steps, size)
    # 23 bits and a half: every value is exact in float32 and neither 0 nor 1, so logarithms stay finite
    return ((words >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-23)


def keys(seed: int, stream: str, indices: np.ndarray, first_step: int, steps: int) -> np.ndarray:
    """Keys for JAX's random functions, uint32 [steps, len(indices), 2], drawn as `uniforms` are.

    Check: two calls over halves of the steps, or of the indices, join to the call over the whole.
    """
    words = _words(seed, stream, indices, first_step, steps, 1)
    return words.view(np.uint32)


def _words(seed: int, stream: str, indices: np.ndarray, first_step: int, steps: int, size: int) -> np.ndarray:
    """Random words, uint64 [steps, len(indices), size]."""
    with np.errstate(over="ignore"):
        lane = _mix(_word(seed, stream) ^ _mix(np.asarray(indices, np.uint64) * _GOLDEN))
        step = np.arange(first_step, first_step + steps, dtype=np.uint64)
        counter = step[:, None] * np.uint64(size) + np.arange(size, dtype=np.uint64)
        return _mix(lane[None, :, None] + (counter[:, None, :] + np.uint64(1)) * _GOLDEN)


def gumbels(seed: int, stream: str, indices: np.ndarray, first_step: int, steps: int, size: int) -> np.ndarray:
    """Standard Gumbel noise [steps, B, size]: argmax(logits + noise) draws from softmax(logits)."""
    return -np.log(-np.log(uniforms(seed, stream, indices, first_step, steps, size)))


def normals(seed: int, stream: str, indices: np.ndarray, first_step: int, steps: int, size: int) -> np.ndarray:
    """Standard normal noise [steps, B, size] by Box and Muller."""
    u = uniforms(seed, stream, indices, first_step, steps, 2 * size)
    return np.sqrt(-2 * np.log(u[..., :size])) * np.cos(np.float32(2 * np.pi) * u[..., size:])
