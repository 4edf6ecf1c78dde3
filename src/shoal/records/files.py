# SPDX-License-Identifier: Apache-2.0
"""Small files that are either the old one or the new one, never half of one."""

import contextlib
import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from shoal.errors import CheckpointError


def plain(value: Any) -> Any:
    """The value as JSON can hold it: records to dicts, NumPy to Python, numbers that are not finite to None.

    Check: the result goes through strict JSON unchanged.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "__array__"):  # NumPy's and any other library's arrays and scalars
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def sync_dir(path: Path) -> None:
    """Make the names in a folder last: without this a crash may undo a rename."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Write aside, sync, rename. A reader sees the old file or the new one.

    Raises:
      CheckpointError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_dir(path.parent)
    except OSError as fault:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise unwritable(path, fault) from None


def append_whole(fd: int, path: Path, data: bytes) -> None:
    """Append to a file that was opened with O_APPEND: all of the data, or nothing.

    Raises:
      CheckpointError: the disk is full; the file is as it was.
    """
    start = os.fstat(fd).st_size
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, data[written:])
    except OSError as fault:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, start)
        raise unwritable(path, fault) from None


def replace_json(path: Path, value: Any) -> None:
    """`replace_file` with the value as readable JSON."""
    replace_file(path, (json.dumps(plain(value), indent=1) + "\n").encode())


def unwritable(path: Path, fault: OSError) -> CheckpointError:
    """The one line for a record that could not be written. What was on disk before is still there."""
    reason = (fault.strerror or str(fault)).lower()
    return CheckpointError(f"{path} could not be written: {reason}; earlier records are intact, make room and resume")
