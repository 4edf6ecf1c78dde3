# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a memory in a run's folder: `step-N`, N being the env steps that had been received."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

KEPT = 3
"""as many as checkpoints are, so that a run whose newest are spoiled has the memory of an older one"""
_STEP = re.compile(r"step-(\d{1,18})\Z")


def save_snapshot(memory: Any, folder: Path, env_steps: int) -> None:
    """Write a snapshot of this step, then let older ones go.

    Raises CheckpointError where the disk is full or cannot be written.
    """
    target = folder / f"step-{env_steps}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        memory.save(target)
    for old in snapshots(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def snapshot_for(folder: Path, env_steps: int | None = None) -> Path | None:
    """The snapshot to go on with from this step: its own, or else the newest before it; without a step, the newest.

    Check: with one of the very step a run in fixed order goes on exactly.
    """
    found = [path for path in snapshots(folder) if env_steps is None or step_of(path) <= env_steps]
    return found[-1] if found else None


def forget_after(folder: Path, env_steps: int) -> None:
    """Remove snapshots of later steps: a run that goes on from here writes its own."""
    for path in snapshots(folder):
        if step_of(path) > env_steps:
            shutil.rmtree(path, ignore_errors=True)


def snapshots(folder: Path) -> list[Path]:
    """All of them, oldest first."""
    with contextlib.suppress(OSError):
        return sorted((path for path in folder.iterdir() if _STEP.match(path.name)), key=step_of)
    return []


def step_of(path: Path) -> int:
    """The env steps that a snapshot's name tells."""
    return int(path.name.partition("-")[2])
