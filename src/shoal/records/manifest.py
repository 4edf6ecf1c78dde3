# SPDX-License-Identifier: Apache-2.0
"""manifest.json of a checkpoint: what it holds, and how every altered byte of it is found. Safe on hostile files."""

import hashlib
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from shoal.errors import CheckpointError

ARRAYS = "arrays.safetensors"
MANIFEST = "manifest.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_HEADER_BYTES = 8 * 2**20
"""of the arrays file; room for about 80,000 arrays, and little enough to parse without harm"""

_SEAL = "manifest_sha256"


def dump_manifest(manifest: dict[str, Any]) -> bytes:
    """The only spelling of this manifest, sealed with its own hash.

    Check: any change of any byte is refused by `read_manifest`.
    """
    body = {"format": FORMAT, **manifest}
    sealed = _spelled({**body, _SEAL: hashlib.sha256(_spelled(body)).hexdigest()})
    if len(sealed) > MAX_MANIFEST_BYTES:
        raise ValueError(f"a manifest of {len(sealed)} bytes is over {MAX_MANIFEST_BYTES}: save the bulk as arrays")
    return sealed


def file_entry(path: Path) -> dict[str, Any]:
    """Size and hash of one file, as the manifest lists it."""
    with _opened(path) as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint folder `path`.

    Raises:
      CheckpointError: missing, altered, or written by a later shoal.
    """
    name = path / MANIFEST
    if path.is_symlink() or not path.is_dir():
        raise CheckpointError(f"{path} is no checkpoint folder")
    with _opened(name) as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    manifest = _parsed(data)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise CheckpointError(f"{name} is damaged: it is not a checkpoint's manifest")
    if manifest["format"] > FORMAT:
        raise CheckpointError(f"{name} has format {manifest['format']}, this shoal reads up to {FORMAT}; upgrade shoal")
    body = {key: value for key, value in manifest.items() if key not in (_SEAL, "format")}
    if dump_manifest(body) != data or not _is_complete(body):
        raise CheckpointError(f"{name} is damaged: its hash does not match its contents")
    return body


def verify_files(path: Path) -> dict[str, Any]:
    """The manifest, once every listed file has the listed size and hash and a header of sane length.

    Raises:
      CheckpointError: names the first file that is missing, cut short, altered or not a regular file.
    """
    manifest = read_manifest(path)
    if set(manifest["files"]) != {ARRAYS}:
        raise CheckpointError(f"{path / MANIFEST} lists files that no checkpoint has")
    name, listed = path / ARRAYS, manifest["files"][ARRAYS]
    with _opened(name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != listed["bytes"]:
            raise CheckpointError(f"{name} is damaged: {size} bytes where the manifest lists {listed['bytes']}")
        header = int.from_bytes(file.read(8), "little")
        if header > min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{name} is damaged: its header claims {header} bytes")
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != listed["sha256"]:
            raise CheckpointError(f"{name} is damaged: its hash is not the one the manifest lists")
    return manifest


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data) if len(data) <= MAX_MANIFEST_BYTES else None
    except (ValueError, RecursionError):
        return None


def _is_complete(body: dict[str, Any]) -> bool:
    files = body.get("files")
    return (
        isinstance(body.get("step"), int)
        and isinstance(body.get("meta"), dict)
        and isinstance(body.get("score", ""), (int, float, type(None)))
        and isinstance(files, dict)
        and all(isinstance(entry, dict) and {"bytes", "sha256"} <= set(entry) for entry in files.values())
    )


def _spelled(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _opened(path: Path) -> BufferedReader:
    """A regular file, opened without following a link and without waiting on a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as fault:
        reason = "it is a link" if path.is_symlink() else (fault.strerror or str(fault)).lower()
        raise CheckpointError(f"{path} cannot be read: {reason}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise CheckpointError(f"{path} cannot be read: it is not a regular file")
    return open(fd, "rb")
