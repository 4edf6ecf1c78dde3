# SPDX-License-Identifier: Apache-2.0
"""Snapshots of arrays in segments: files of a bounded size, written from memory and read back into it.

Its manifest.json lists every array with the SHA-256 of its segments. Segments of nothing but zeros, as of a
memory that is half full, have no file. The folder gets its name when all of it is on the disk.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shoal.errors import CheckpointError
from shoal.records.files import plain, sync_dir, unwritable
from shoal.records.manifest import MANIFEST, dump_manifest, read_manifest

SEGMENT_BYTES = 64 * 2**20


def save(
    folder: Path, arrays: dict[str, np.ndarray], state: dict[str, Any], segment_bytes: int = SEGMENT_BYTES
) -> None:
    """Write arrays, and a state that JSON can hold, as the new folder `folder`.

    Raises CheckpointError where it is there already, or the disk is full or cannot be written.
    """
    aside = folder.with_name(f"writing-{folder.name}")
    try:
        if folder.exists():
            raise FileExistsError(None, "there is a snapshot of that name already")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        segments = {name: _write(aside, name, array, segment_bytes) for name, array in arrays.items()}
        forms = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
        meta = {"forms": forms, "segment_bytes": segment_bytes, "segments": segments, "state": plain(state)}
        _put(aside / MANIFEST, dump_manifest({"step": 0, "score": None, "meta": meta, "files": {}}))
        sync_dir(aside)
        os.rename(aside, folder)
        sync_dir(folder.parent)
    except OSError as fault:
        raise unwritable(folder, fault) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def state_of(folder: Path) -> dict[str, Any]:
    """The state of a snapshot. Raises CheckpointError where its manifest is missing or altered."""
    return read_manifest(folder)["meta"]["state"]


def restore(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Read a snapshot into arrays of the same names and forms, every byte verified.

    Raises CheckpointError naming the first file that is missing, cut short or altered, or the first array of another
    form. Arrays may be half written then.

    Check: arrays are those that were saved.
    """
    meta = read_manifest(folder)["meta"]
    forms = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    if odd := sorted(name for name in {*forms, *meta["forms"]} if forms.get(name) != meta["forms"].get(name)):
        saved, here = meta["forms"].get(odd[0], "nothing"), forms.get(odd[0], "nothing")
        raise CheckpointError(
            f"{folder} is of another memory: {odd[0]} is {saved} there and {here} here; use the settings it was saved "
            "with, or go on without it"
        )
    for name, array in arrays.items():
        for number, part in enumerate(_parts(array, meta["segment_bytes"])):
            _read(folder / f"{name}-{number}", meta["segments"][name][number], part)


def _parts(array: np.ndarray, segment_bytes: int) -> list[memoryview]:
    """An array's memory, cut into segments."""
    flat = array.reshape(-1).view(np.uint8).data
    return [flat[begin : begin + segment_bytes] for begin in range(0, len(flat), segment_bytes)]


def _write(folder: Path, name: str, array: np.ndarray, segment_bytes: int) -> list[str | None]:
    """Write an array's segments; their hashes, None for one of zeros."""
    hashes: list[str | None] = []
    for number, part in enumerate(_parts(array, segment_bytes)):
        hashes.append(hashlib.sha256(part).hexdigest() if np.any(part) else None)
        if hashes[-1]:
            _put(folder / f"{name}-{number}", part)
    return hashes


def _put(path: Path, data: Any) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, listed: str | None, into: memoryview) -> None:
    if listed is None:
        np.asarray(into)[:] = 0
        return
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == len(into):
                file.readinto(into)
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault.strerror}; go on without the snapshot") from None
    if size != len(into):
        raise CheckpointError(f"{path} was cut short: {size} bytes of {len(into)}; go on without the snapshot")
    if hashlib.sha256(into).hexdigest() != listed:
        raise CheckpointError(f"{path} is damaged: its hash does not match; go on without the snapshot")
