# SPDX-License-Identifier: Apache-2.0
"""What workers do in `benchmarks.micro.processes`: in a module of its own, where their processes find it by name."""

import os
import sys
import time
from time import perf_counter
from typing import Any

import numpy as np

from shoal.actors.samplers import start
from shoal.engines import nbytes
from shoal.types import Trajectory

UNROLL, NUM_ENVS = 16, 2


def trajectory_of(size: int) -> Trajectory:
    """A trajectory of about so many bytes, most of them observations."""
    rows = (UNROLL, NUM_ENVS)
    flags = [np.zeros(rows, bool) for _ in range(3)]
    numbers = [np.zeros(rows, np.float32) for _ in range(3)]
    lengths, version = np.zeros(rows, np.int32), np.zeros(NUM_ENVS, np.int64)

    def around(obs: np.ndarray) -> Trajectory:
        return Trajectory(obs, lengths, numbers[0], *flags, numbers[1], (), version, numbers[2], lengths)

    left = size - nbytes(around(np.zeros(0, np.float32)))
    return around(np.zeros((UNROLL + 1, NUM_ENVS, left // (4 * (UNROLL + 1) * NUM_ENVS)), np.float32))


def answer(_index: int, there: Any, back: Any) -> None:
    """Play ping-pong: send the time, and how long what came was on its way."""
    while True:
        (sent,) = there.get()
        arrived = perf_counter()
        back.put((arrived - sent, perf_counter()))


def produce(_index: int, trajectories: Any, size: int) -> None:
    """Put the same trajectory for ever."""
    item = trajectory_of(size)
    while True:
        trajectories.put(item, 0)


def hand_over_asleep(_index: int, store: Any, trajectories: Any, sleep_s: float) -> None:
    """An actor whose environments only sleep."""
    item = trajectory_of(3_000)
    while True:
        _, version = store.pull()
        time.sleep(sleep_s)
        trajectories.put(item, version)


def follow(_index: int, store: Any, times: Any) -> None:
    """Pull every version, and once more: when it was there, and how long it took to pull what is there."""
    version = -1
    while True:
        _, version = store.pull(at_least=version + 1)
        there = perf_counter()
        store.pull()
        times.put((there, perf_counter() - there))


def tell_versions(_index: int, store: Any, told: Any) -> None:
    """Pull every version that there is time for, and say so."""
    version = -1
    while True:
        _, version = store.pull(at_least=version + 1)
        told.put(version)


def act(index: int, config: Any, parts: Any, params: np.ndarray, told: Any) -> None:
    """An actor that tells when it has finished its first step, and goes on."""
    rollout = start(index, config, parts)
    rollout.unroll(params, 0, 1)
    told.put((perf_counter(), os.getpid(), "jax" in sys.modules))
    while True:
        rollout.unroll(params, 0, 1)
        time.sleep(0.01)


def push_often(index: int, vector: Any, told: Any, pushes: int) -> None:
    """A worker that does nothing else."""
    params, version = vector.pull()
    grad = np.ones_like(params)
    vector.push(grad, version, 1e-3, 1)
    began = perf_counter()
    for _ in range(pushes):
        _, version = vector.pull()
        vector.push(grad, version, 1e-3, 1)
    told.put(pushes / (perf_counter() - began))
