# SPDX-License-Identifier: Apache-2.0
"""Random trajectories that keep the rules of `shoal.types.Trajectory` about how episodes end."""

from typing import NamedTuple

import numpy as np


class Columns(NamedTuple):
    """What the losses read, in their order of arguments."""

    reward: np.ndarray
    value: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    log_ratio: np.ndarray

    @property
    def ended(self):
        return self.terminated | self.truncated


def make(seed, steps=7, num_envs=3, end_prob=0.35):
    """[steps, num_envs] with ends of both kinds, a reset row after each, and 9s in what a reset row must not use."""
    rng = np.random.default_rng(seed)
    shape = (steps, num_envs)
    terminated, truncated, valid = np.zeros(shape, bool), np.zeros(shape, bool), np.ones(shape, bool)
    for b in range(num_envs):
        resets = rng.random() < 0.3
        for t in range(steps):
            valid[t, b] = not resets
            resets = not resets and rng.random() < end_prob
            if resets:
                (terminated if rng.random() < 0.5 else truncated)[t, b] = True
    reward = np.where(valid, rng.normal(size=shape), 9.0)
    log_ratio = np.where(valid, rng.normal(scale=0.7, size=shape), 9.0)
    value = rng.normal(size=(steps + 1, num_envs))
    return Columns(
        reward.astype(np.float32), value.astype(np.float32), terminated, truncated, valid, log_ratio.astype(np.float32)
    )


def endless(seed, steps=7, num_envs=3):
    """As `make`, but no episode ends and every row counts."""
    return make(seed, steps, num_envs, end_prob=0.0)._replace(valid=np.ones((steps, num_envs), bool))


def spoil(columns, junk):
    """Junk in everything that must not count: a reset row's fields, and values after termination."""
    unused = np.zeros(columns.value.shape, bool)
    unused[1:] = columns.terminated
    unused[0] = ~columns.valid[0]
    flag = ~columns.valid & bool(np.isnan(junk) or junk > 0)
    return columns._replace(
        reward=np.where(columns.valid, columns.reward, np.float32(junk)),
        value=np.where(unused, np.float32(junk), columns.value),
        log_ratio=np.where(columns.valid, columns.log_ratio, np.float32(junk)),
        terminated=columns.terminated | flag,
        truncated=columns.truncated | flag,
    )
