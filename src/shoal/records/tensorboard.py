# SPDX-License-Identifier: Apache-2.0
"""Rows of metrics as TensorBoard's event files, written with its own record format and messages: no TensorFlow.

One event a row holds all its numbers, at step env_steps. A resumed run begins a new file that tells TensorBoard to
forget what the earlier start wrote beyond the checkpoint.
"""

import os
import re
from datetime import datetime
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from shoal.errors import ConfigError
from shoal.records.files import append_whole, plain, unwritable

FOLDER = "tensorboard"
REMEDY = "pip install 'shoal[tensorboard]'"

_NAME = re.compile(r"events\.out\.tfevents\.(\d{1,18})\.shoal\Z")


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / _next_name(folder)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        except OSError as fault:
            raise unwritable(folder, fault) from None
        self._put(file_version="brain.Event:2")
        if from_env_steps:
            log = _messages("event").SessionLog
            self._put(step=from_env_steps + 1, session_log=log(status=log.START))

    def write(self, row: dict[str, Any]) -> None:
        """One event with every finite number of the row; whole and at once, so a killed run leaves one torn at most.

        Raises:
          CheckpointError: the disk is full.
        """
        summary = _messages("summary").Summary
        values = [
            summary.Value(tag=name, simple_value=float(value))
            for name, value in plain(row).items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        self._put(step=int(row["env_steps"]), summary=summary(value=values))

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put(self, **fields: Any) -> None:
        record = BytesIO()
        writer = import_module("tensorboard.summary.writer.record_writer").RecordWriter(record)
        writer.write(_messages("event").Event(wall_time=_now(), **fields).SerializeToString())
        append_whole(self._fd, self._path, record.getvalue())


def _next_name(folder: Path) -> str:
    """A name that sorts behind those of earlier starts, as TensorBoard reads them, whatever the clock says."""
    earlier = [int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
    seconds = max([int(_now()), *(second + 1 for second in earlier)])
    return f"events.out.tfevents.{seconds:010d}.shoal"


def _messages(name: str) -> Any:
    """Classes of messages, which the package makes when it is imported."""
    return import_module(f"tensorboard.compat.proto.{name}_pb2")


def _now() -> float:
    return datetime.now().timestamp()
