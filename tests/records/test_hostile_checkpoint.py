# SPDX-License-Identifier: Apache-2.0
"""Cut, altered and hostile checkpoints: every one is refused with a CheckpointError, without harm."""

import json
import os
import random
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from shoal.errors import CheckpointError
from shoal.records import checkpoint
from shoal.records.manifest import ARRAYS, MANIFEST, dump_manifest, file_entry

NAMES = (ARRAYS, MANIFEST)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    arrays = {"w": np.arange(40, dtype=np.float32), "b": np.zeros((2, 3), np.int64)}
    return checkpoint.save(tmp_path, 3, arrays, {"env_steps": 3, "level": "exact"}, score=1.5)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_found(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in random.Random(0).sample(range(len(whole)), min(150, len(whole))):
        (saved / name).write_bytes(whole[:length])
        assert name in refused(saved)
    (saved / name).write_bytes(whole + b"\n")
    refused(saved)


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    chance = random.Random(1)
    for bit in chance.sample(range(8 * len(whole)), 1000):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << (bit % 8)
        (saved / name).write_bytes(altered)
        assert "step-3" in refused(saved)
    (saved / name).write_bytes(whole)
    checkpoint.load(saved)


def sealed(saved: Path, data: bytes) -> Path:
    """A checkpoint whose hashes fit, but whose arrays file somebody else made."""
    (saved / ARRAYS).write_bytes(data)
    manifest = {"step": 3, "score": None, "meta": {}, "files": {ARRAYS: file_entry(saved / ARRAYS)}}
    (saved / MANIFEST).write_bytes(dump_manifest(manifest))
    return saved


def tensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(shape: object, start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HOSTILE = {
    "empty": b"",
    "no header": b"\x01\x02",
    "header of 2^63 bytes": tensors({}, length=2**63),
    "header of 2^64-1 bytes": tensors({}, length=2**64 - 1),
    "header beyond the end": tensors({}, b"x" * 10, length=50),
    "header is no text": tensors(b"\xff\xfe{}"),
    "header is a list": tensors([1, 2]),
    "deep header": tensors(b"[" * 200_000),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "offsets beyond the end": tensors({"a": entry([1000], 0, 4000)}, b"x" * 8),
    "offsets overlap": tensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"x" * 12),
    "offsets leave a hole": tensors({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"x" * 12),
    "negative offsets": tensors({"a": entry([1], -4, 0)}, b"x" * 4),
    "shape is negative": tensors({"a": entry([-1], 0, 4)}, b"x" * 4),
    "shape is not a number": tensors({"a": entry([float("nan")], 0, 4)}, b"x" * 4),
    "shape overflows": tensors({"a": entry([2**40, 2**40], 0, 4)}, b"x" * 4),
    "dtype unknown": tensors({"a": entry([1], 0, 4, "PY")}, b"x" * 4),
    "dtype without NumPy type": tensors({"a": entry([4], 0, 4, "F8_E4M3")}, b"x" * 4),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_arrays_with_fitting_hashes_are_refused(saved: Path, case: str) -> None:
    assert ARRAYS in refused(sealed(saved, HOSTILE[case]))


def test_a_million_arrays_are_refused_without_harm(saved: Path) -> None:
    header = b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(10**6)) + b"}"
    sealed(saved, tensors(header))
    del header
    tracemalloc.start()
    assert "header claims" in refused(saved)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


MANIFESTS = {
    "empty": b"",
    "not JSON": b"hello",
    "a list": b"[]",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep dict": b'{"format":1,"meta":' * 5_000 + b"1" + b"}" * 5_000,
    "no format": b"{}",
    "format of another type": b'{"format": "1"}',
    "huge number": b'{"format": 1, "step": ' + b"9" * 10_000 + b"}",
    "not finite": b'{"format": 1, "step": NaN, "score": 1e999}',
    "over the limit": b" " * 5_000_000,
    "a pickle": b"\x80\x04cos\nsystem\n.",
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_hostile_manifests_are_refused(saved: Path, case: str) -> None:
    (saved / MANIFEST).write_bytes(MANIFESTS[case])
    assert MANIFEST in refused(saved)


def test_a_later_format_asks_for_an_upgrade(saved: Path) -> None:
    (saved / MANIFEST).write_text('{"format": 2}')
    assert "upgrade shoal" in refused(saved)


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "extra.bin", f"./{ARRAYS}"])
def test_file_names_of_the_manifest_are_not_followed(saved: Path, name: str) -> None:
    files = {name: {"bytes": 0, "sha256": ""}}
    (saved / MANIFEST).write_bytes(dump_manifest({"step": 3, "score": None, "meta": {}, "files": files}))
    assert "lists files" in refused(saved)


@pytest.mark.parametrize("change", [{"step": "3"}, {"meta": []}, {"files": []}, {"files": {ARRAYS: 1}}, {"score": "x"}])
def test_manifests_of_wrong_types_are_refused(saved: Path, change: dict[str, object]) -> None:
    manifest = {"step": 3, "score": None, "meta": {}, "files": {ARRAYS: file_entry(saved / ARRAYS)}, **change}
    (saved / MANIFEST).write_bytes(dump_manifest(manifest))
    assert MANIFEST in refused(saved)


@pytest.mark.parametrize("name", NAMES)
def test_links_pipes_and_folders_are_refused(saved: Path, name: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.move(saved / name, kept)
    os.symlink(kept, saved / name)
    assert "it is a link" in refused(saved)
    os.unlink(saved / name)
    os.mkfifo(saved / name)
    assert "not a regular file" in refused(saved)
    os.unlink(saved / name)
    (saved / name).mkdir()
    assert name in refused(saved)


def test_a_linked_checkpoint_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    os.symlink(saved, tmp_path / "step-4")
    assert "no checkpoint folder" in refused(tmp_path / "step-4")
    assert checkpoint.load_latest(tmp_path).step == 3
