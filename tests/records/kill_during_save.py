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


def score_of(step: int) -> float | None:
    """A new best at every ninth step; the others are lower or have none. Mostly it is older than the newest two."""
    if step % 9 == 0:
        return float(step)
    return None if step % 7 == 3 else float(-step)


def save_for_ever(folder: Path, first: int) -> None:
    step = first
    while True:
        arrays = {"w": np.full((64, 64), float(step)), "b": np.full(7, step, np.int64)}
        checkpoint.save(folder, step, arrays, {"env_steps": step}, score_of(step), keep=2)
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


def is_whole(found: checkpoint.Checkpoint) -> bool:
    """Whether every value is the one that was saved at this step."""
    whole = (found.arrays["w"] == found.step).all() and (found.arrays["b"] == found.step).all()
    return bool(whole) and found.meta["env_steps"] == found.step


def main(folder: Path, kills: int, seed: int) -> None:
    chance, newest, best = random.Random(seed), 0, 0
    seen = {"torn": 0, "passed_over": 0, "best_lost": 0, "best_is_older": 0, "mid_save": 0}
    checkpoint.save(folder, 0, {"w": np.zeros((64, 64)), "b": np.zeros(7, np.int64)}, {"env_steps": 0}, score_of(0))
    for _ in range(kills):
        kill_after(folder, newest + 1, chance.uniform(0.002, 0.04))
        seen["mid_save"] += any(not entry.name.startswith("step-") for entry in folder.iterdir())
        try:
            latest, highest = checkpoint.load_latest(folder), checkpoint.load_best(folder)
        except CheckpointError:
            seen["torn"] += 1
            continue
        seen["passed_over"] += len(latest.warnings) + len(highest.warnings)
        seen["torn"] += not (is_whole(latest) and is_whole(highest) and latest.step >= newest)
        newest = max(newest, latest.step)
        # every ninth step up to the newest was saved and is the best of those before it
        seen["best_lost"] += highest.step != newest // 9 * 9
        seen["best_is_older"] += highest.step < newest - 1
        best = max(best, highest.step)
    json.dump({**seen, "newest": newest, "best": best}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
