# SPDX-License-Identifier: Apache-2.0
"""Rows of metrics as TensorBoard's event files, written with its own record format and messages: no TensorFlow.

One event a row holds all its numbers, at step env_steps. A resumed run begins a new file that tells TensorBoard to
forget what the earlier start wrote beyond the checkpoint.
"""

import os
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from shoal.errors import ConfigError
from shoal.records.files import unwritable

FOLDER = "tensorboard"
REMEDY = "pip install 'shoal[tensorboard]'"


def check_tensorboard() -> None:
    """Raises ConfigError in one line unless TensorBoard's package is installed."""
    try:
        import_module("tensorboard.summary.writer.record_writer")
        _messages("event")
    except ImportError as fault:
        raise ConfigError(f"--tensorboard needs TensorBoard's package ({fault}); {REMEDY}") from fault


class EventWriter:
    """Appends rows to a new event file in `folder`.

    Args:
      from_env_steps: what this start of the run goes on from; TensorBoard drops older events beyond it.

    Check: TensorBoard's own reader gives the numbers of metrics.jsonl back.
    """

    def __init__(self, folder: Path, from_env_steps: int = 0):
        from tensorboard.summary.writer.record_writer import RecordWriter

        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + len(list(folder.glob("events.out.tfevents.*")))
            path = folder / f"events.out.tfevents.{int(_now())}.shoal.{os.getpid()}.{number}"
            self._file = open(path, "xb")  # noqa: SIM115 closed by close()
        except OSError as fault:
            raise unwritable(folder, fault) from None
        self._path = path
        self._records = RecordWriter(self._file)
        self._put(file_version="brain.Event:2")
        if from_env_steps:
            log = _messages("event").SessionLog
            self._put(step=from_env_steps + 1, session_log=log(status=log.START))

    def write(self, row: dict[str, Any]) -> None:
        """One event with every number of the row, flushed.

        Raises:
          CheckpointError: the disk is full.
        """
        summary = _messages("summary").Summary
        values = [
            summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        self._put(step=int(row["env_steps"]), summary=summary(value=values))

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def _put(self, **fields: Any) -> None:
        try:
            self._records.write(_messages("event").Event(wall_time=_now(), **fields).SerializeToString())
            self._records.flush()
        except OSError as fault:
            raise unwritable(self._path, fault) from None


def _messages(name: str) -> Any:
    """Classes of messages, which the package makes when it is imported."""
    return import_module(f"tensorboard.compat.proto.{name}_pb2")


def _now() -> float:
    return datetime.now().timestamp()
