# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or not there: written aside, synced, renamed, and verified before they are trusted.

A checkpoint is checkpoints/step-N/ with arrays.safetensors and manifest.json (sizes and SHA-256 of every file, and of
itself). Work in progress has names that no reader matches, so a kill at any moment leaves the older checkpoint newest.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shoal.errors import CheckpointError
from shoal.records.files import plain, sync_dir, unwritable
from shoal.records.manifest import ARRAYS, MANIFEST, dump_manifest, file_entry, read_manifest, verify_files

_STEP = re.compile(r"step-(\d{1,18})\Z")
_DTYPES = {"bool", "float16", "bfloat16", "float32", "float64", "complex64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_ASIDE = ("writing-", "leaving-")


class Checkpoint(NamedTuple):
    """What was saved."""

    path: Path
    step: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    warnings: tuple[str, ...] = ()
    """one line for each newer checkpoint that could not be used"""


def save(
    folder: Path,
    step: int,
    arrays: dict[str, np.ndarray],
    meta: dict[str, Any],
    score: float | None = None,
    keep: int = 3,
) -> Path:
    """Write checkpoints/step-N, verify it, then let older ones go: the newest `keep` and the best score stay.

    Args:
      folder: the run's checkpoints folder.
      step: env_steps so far; a valid checkpoint of the same step is kept as it is.
      meta: what JSON can hold: counters, seed, config hash, level ("exact" or "statistical").
      score: what "best" means, usually episode_return_mean; None never counts as best.

    Raises:
      CheckpointError: the disk is full or cannot be written; earlier checkpoints are intact.

    Check: killed at any moment, `load_latest` finds this checkpoint or the one before, whole.
    """
    target = folder / f"step-{step}"
    aside = folder / f"{_ASIDE[0]}step-{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        if _fault(target) is None:
            return target
        _write(aside, step, arrays, meta, score)
        verify_files(aside)
        _leave(target)
        os.rename(aside, target)
        sync_dir(folder)
    except OSError as fault:
        raise unwritable(target, fault) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _prune(folder, keep)
    return target


def load(path: Path) -> Checkpoint:
    """One checkpoint, every byte verified.

    Raises:
      CheckpointError: a file is missing, cut short, altered, not a regular file, or of a later format.
    """
    manifest = verify_files(path)
    if _STEP.match(path.name) and _step(path) != manifest["step"]:
        raise CheckpointError(f"{path} holds step {manifest['step']}: the folder was renamed; give it its name back")
    return Checkpoint(path, manifest["step"], _read_arrays(path / ARRAYS), manifest["meta"])


def load_latest(folder: Path) -> Checkpoint:
    """The newest valid checkpoint; `warnings` names every newer one that was passed over, and why.

    Raises:
      CheckpointError: there is none that is valid. A run never starts from scratch silently.
    """
    faults: list[str] = []
    for path in reversed(paths(folder)):
        try:
            return load(path)._replace(warnings=tuple(f"{fault}; using an older checkpoint" for fault in faults))
        except CheckpointError as fault:
            faults.append(str(fault))
    reason = "; ".join(faults) or "there is none"
    raise CheckpointError(f"no valid checkpoint in {folder}: {reason}; restore a copy or start a new run")


def best(folder: Path) -> Path | None:
    """The valid-looking checkpoint with the highest score, the newest of equals; None where none has a score."""
    scored = [(manifest["score"], path) for path, manifest in _manifests(folder) if manifest["score"] is not None]
    return max(scored, key=lambda pair: (pair[0], _step(pair[1])))[1] if scored else None


def best_score(folder: Path) -> float | None:
    """The score of the best checkpoint."""
    path = best(folder)
    return None if path is None else read_manifest(path)["score"]


def load_best(folder: Path) -> Checkpoint:
    """The valid checkpoint with the highest score; `warnings` says so where it had to be another one.

    Raises:
      CheckpointError: no checkpoint is valid.
    """
    scored = [(manifest["score"], path) for path, manifest in _manifests(folder) if manifest["score"] is not None]
    faults: list[str] = []
    for _, path in sorted(scored, key=lambda pair: (pair[0], _step(pair[1])), reverse=True):
        try:
            return load(path)._replace(warnings=tuple(f"{fault}; using the next best" for fault in faults))
        except CheckpointError as fault:
            faults.append(str(fault))
    why = "; ".join(faults) or "no checkpoint has a score, since fewer than 100 episodes had ended"
    found = load_latest(folder)
    return found._replace(warnings=(*found.warnings, f"{why}: using the newest, {found.path}"))


def paths(folder: Path) -> list[Path]:
    """Every step-N in the folder, oldest first, valid or not."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    return sorted((entry for entry in entries if _STEP.match(entry.name)), key=_step)


def prune(folder: Path, keep: int) -> None:
    """Let checkpoints go beyond the newest `keep`, but never the best, and nothing unless the newest is valid."""
    found = paths(folder)
    if found and _fault(found[-1]) is None:
        _prune(folder, keep)


def set_aside_after(folder: Path, step: int) -> list[Path]:
    """Rename checkpoints newer than `step` to unused-step-N: a resumed run writes its own. Gives the new names."""
    moved = []
    for path in paths(folder):
        if _step(path) > step:
            number = 1
            while (name := folder / f"unused-{number}-{path.name}").exists():
                number += 1
            os.rename(path, name)
            moved.append(name)
    return moved


def _prune(folder: Path, keep: int) -> None:
    found = paths(folder)
    kept = {*found[-max(keep, 1) :], best(folder)}
    for path in found:
        if path not in kept:
            with contextlib.suppress(OSError):
                _leave(path)
    _sweep(folder)


def _write(aside: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any], score: float | None) -> None:
    aside.mkdir()
    _write_arrays(aside / ARRAYS, arrays)
    entry = file_entry(aside / ARRAYS)
    with open(aside / MANIFEST, "wb") as file:
        file.write(dump_manifest({"step": step, "score": plain(score), "meta": plain(meta), "files": {ARRAYS: entry}}))
        file.flush()
        os.fsync(file.fileno())
    sync_dir(aside)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save_file

    # asarray with order="C": the format takes the buffer as it lies, and a view would be written wrongly
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    if odd := {name: str(array.dtype) for name, array in dense.items() if array.dtype.name not in _DTYPES}:
        raise TypeError(f"arrays of these dtypes cannot be saved: {odd}")
    try:
        save_file(dense, path)
        _sync_file(path)
        # opening checks the layout against the file's length, so a write cut short cannot enter the manifest
        with safe_open(path, framework="np") as written:
            if set(written.keys()) != set(dense):
                raise OSError("other arrays were read back than written")
    except SafetensorError as fault:
        # the library wraps the system's errors (a full disk among them) in its own
        raise OSError(str(fault).partition("I/O error: ")[2].partition(" (os error")[0] or str(fault)) from None


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as fault:
        raise CheckpointError(f"{path} is not a file of arrays: {fault}") from None


def _fault(path: Path) -> str | None:
    """Why this checkpoint cannot be used; None for a valid one."""
    try:
        verify_files(path)
    except CheckpointError as fault:
        return str(fault)
    return None


def _manifests(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in paths(folder):
        with contextlib.suppress(CheckpointError):
            found.append((path, read_manifest(path)))
    return found


def _step(path: Path) -> int:
    match = _STEP.match(path.name)
    assert match is not None
    return int(match.group(1))


def _leave(path: Path) -> None:
    """Take a checkpoint out of the readers' sight; `_sweep` removes it."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        os.rename(path, path.with_name(f"{_ASIDE[1]}{path.name}"))


def _sweep(folder: Path) -> None:
    """Remove what a killed save or prune left. One writer per run folder makes that safe."""
    for entry in folder.iterdir():
        if entry.name.startswith(_ASIDE):
            shutil.rmtree(entry, ignore_errors=True)
