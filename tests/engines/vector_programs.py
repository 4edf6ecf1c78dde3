# SPDX-License-Identifier: Apache-2.0
"""What workers in other processes do with a shared vector, and a rule that ends its own process."""

import fcntl
import os
import signal
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from shoal.engines import me
from shoal.processes.link import Link


@dataclass(frozen=True)
class Killer:
    """Adds, and ends its own process where it is half way through a chunk, the first time that it meets `number`."""

    number: float

    def __call__(self, params: np.ndarray, moments: np.ndarray, grad: np.ndarray, rate: float) -> None:
        half = len(params) // 2
        params[:half] += grad[:half]
        if grad[0] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        params[half:] += grad[half:]
        moments += 1


def exchange_some(index, vector, told, count):
    """Exchange gradients of ones; after a restart only tell that it is there again."""
    pushes = 0 if me().epoch else count
    for _ in range(pushes):
        vector.exchange(np.ones(len(vector.pull()[0])), vector.version, samples=3)
    told.put((index, me().epoch, pushes))


def exchange_once_killed(index, vector, told, number):
    """The first life ends within its exchange."""
    if me().epoch == 0:
        vector.exchange(np.full(len(vector.pull()[0]), number), 0)
    told.put((index, me().epoch, 0))


def push_in_turn(index, vector, turns, told):
    """Push the gradient that comes, when it comes."""
    while True:
        (grad,) = turns.get()
        told.put(vector.push(grad, vector.version, 0.1, 2))


def push_counting(index, vector, results, count):
    """How often a process spoke to its shadow and took a kernel's lock over that many pulls and pushes, and how long it
    took."""
    spoken, locked = [], []
    vector.push(np.ones(len(vector.pull()[0])), 0)  # attached
    send, lockf = Link.send, fcntl.lockf
    Link.send = lambda *args, **settings: (spoken.append(1), send(*args, **settings))[1]
    fcntl.lockf = lambda *args: (locked.append(1), lockf(*args))[1]
    began = perf_counter()
    for _ in range(count):
        flat, version = vector.pull()
        vector.push(np.ones(len(flat)), version)
    took = perf_counter() - began
    Link.send, fcntl.lockf = send, lockf
    results.put((index, len(spoken), len(locked), took))
