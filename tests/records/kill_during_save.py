# SPDX-License-Identifier: Apache-2.0
"""Run as a script: forks savers, kills each at a random moment, and reads the folder after every kill.

A process of its own, because forking needs one thread and no array runtime. Prints one JSON line.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

from shoal.errors import CheckpointError
from shoal.records import checkpoint


def save_for_ever(folder: Path, first: int) -> None:
    step = first
    while True:
        arrays = {"w": np.full((64, 64), float(step)), "b": np.full(7, step, np.int64)}
        checkpoint.save(folder, step, arrays, {"env_steps": step}, score=float(step % 5), keep=2)
        step += 1


def kill_after(folder: Path, first: int, delay_s: float) -> None:
    child = os.fork()
    if child == 0:
        save_for_ever(folder, first)
    # select without descriptors waits, and needs no clock
    import select

    select.select([], [], [], delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(folder: Path, kills: int, seed: int) -> None:
    chance, newest, torn, passed_over, leftovers = random.Random(seed), 0, 0, 0, 0
    checkpoint.save(folder, 0, {"w": np.zeros((64, 64)), "b": np.zeros(7, np.int64)}, {"env_steps": 0})
    for _ in range(kills):
        kill_after(folder, newest + 1, chance.uniform(0.002, 0.04))
        leftovers += any(not entry.name.startswith("step-") for entry in folder.iterdir())
        try:
            found = checkpoint.load_latest(folder)
        except CheckpointError:
            torn += 1
            continue
        passed_over += len(found.warnings)
        whole = (found.arrays["w"] == found.step).all() and (found.arrays["b"] == found.step).all()
        torn += not (whole and found.meta["env_steps"] == found.step and found.step >= newest)
        newest = max(newest, found.step)
    json.dump({"torn": torn, "passed_over": passed_over, "mid_save": leftovers, "newest": newest}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
