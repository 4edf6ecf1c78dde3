# SPDX-License-Identifier: Apache-2.0
"""Event files as TensorBoard's own reader finds them: whole, in order, and right after kills and on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.records import tensorboard
from shoal.records.tensorboard import EventWriter

pytest.importorskip("tensorboard")


def write(folder: Path, *steps: int, after: int = 0, name: str = "loss/total") -> None:
    """One start of a run that goes on from `after`; its rows hold minus their step."""
    writer = EventWriter(folder, after)
    for step in steps:
        writer.write({"env_steps": step, name: -float(step)})
    writer.close()


def read(folder: Path, name: str = "loss/total") -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def rows(*steps: int) -> list[tuple[int, float]]:
    return [(step, -float(step)) for step in steps]


def test_numbers_come_back_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.write({"env_steps": 5, "a": 1.5, "b": float("nan"), "c": None, "d": True, "e": "text", "version": 2**24})
    writer.close()
    assert read(tmp_path, "a") == [(5, 1.5)]
    assert read(tmp_path, "version") == [(5, 2**24)]
    for name in "bcde":
        with pytest.raises(KeyError):
            read(tmp_path, name)


def test_a_resumed_run_takes_the_place_of_what_lay_beyond_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 10, 20, 30, 40)
    write(tmp_path, 25, 35, after=20)
    assert read(tmp_path) == rows(10, 20, 25, 35)
    write(tmp_path, 50, after=35)
    assert read(tmp_path) == rows(10, 20, 25, 35, 50)


@pytest.mark.parametrize("clock", [[1000.0, 1000.0, 1000.5], [999_999_999.0, 5.0, 1_000_000_005.0]])
def test_starts_are_read_in_their_order_whatever_the_clock_says(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, now in enumerate(clock):
        monkeypatch.setattr(tensorboard, "_now", lambda now=now: now)
        write(tmp_path, 10 * number + 10, 99, after=10 * number)
    assert read(tmp_path) == rows(10, 20, 30, 99)


def test_an_event_that_a_kill_tore_hides_nothing_after_it(tmp_path: Path) -> None:
    write(tmp_path, 10, 20)
    (file,) = tmp_path.iterdir()
    torn = file.read_bytes()
    for cut in (1, 9, 20):
        file.write_bytes(torn[:-cut])
        assert read(tmp_path) == rows(10)
    write(tmp_path, 30, after=10)
    assert read(tmp_path) == rows(10, 30)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("events.out.tfevents.x.shoal", "notes.txt"):
        (tmp_path / name).touch()
    write(tmp_path, 10)
    assert read(tmp_path) == rows(10)
    assert len(list(tmp_path.iterdir())) == 3


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from shoal.errors import CheckpointError
from shoal.records.tensorboard import EventWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = EventWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for step in range(1, 100):
    try:
        writer.write({"env_steps": step, "loss/total": -step})
    except CheckpointError as fault:
        print(fault)
        break
writer.close()
writer.close()
print(step - 1)
"""


def test_full_disk_keeps_whole_events_and_is_one_line(tmp_path: Path) -> None:
    # a limit on file size fails the same writes as a full disk does, with "file too large" for "no space left"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    line, last = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=True
    ).stdout.splitlines()
    assert "could not be written: file too large; earlier records are intact" in line
    assert read(tmp_path) == rows(*range(1, int(last) + 1))
    assert int(last) > 5


def test_no_thread_and_no_other_framework_comes_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path; from shoal.records.tensorboard import EventWriter; "
        "EventWriter(Path(sys.argv[1])).write({'env_steps': 1}); "
        "print(threading.active_count(), {'jax', 'tensorflow', 'torch'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert answer.stdout == "1 set()\n"
