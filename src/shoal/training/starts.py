# SPDX-License-Identifier: Apache-2.0
"""Starts of a run: the first, those of `resume`, and those that follow by themselves when a learner was lost."""

import contextlib
import io
from typing import Any

from shoal.architectures.base import Parts
from shoal.engines import LearnerLost
from shoal.errors import ShoalError
from shoal.learners.base import LearnerState
from shoal.records import checkpoint
from shoal.records.live import Console
from shoal.records.metrics import MetricsWriter
from shoal.records.run_dir import RunDir
from shoal.records.tensorboard import FOLDER, EventWriter
from shoal.reports.report import write_report
from shoal.training.devices import devices
from shoal.training.recorder import Recorder, StopWhen
from shoal.training.result import Result
from shoal.training.session import Session
from shoal.training.states import unpack

RESTARTS = 3
"""starts by itself that a run may make from the same checkpoint"""


def start(
    session: Session, parts: Parts, state: LearnerState, meta: dict[str, Any] | None = None, *, quiet: bool
) -> Result:
    """Train from `state`; `meta` is that of the checkpoint it came from.

    When a learner process is lost, the run goes on from its newest checkpoint as `resume` would: in the same folder, on
    the same cluster, with the stop conditions that it has.

    Raises: LearnerLost where RESTARTS such starts came no further; what `train` raises.
    """
    run, begun, tries = session.run, state.env_steps, 0
    while True:
        try:
            return _once(session, parts, state, meta, quiet=quiet)
        except LearnerLost as lost:
            try:
                saved = checkpoint.load_latest(run.checkpoints_path)
                begun, tries = (begun, tries + 1) if saved.step <= begun else (saved.step, 1)
                if tries > RESTARTS:
                    raise _stuck(run, saved.path.name, lost)
            except ShoalError as fault:
                run.log(f"stopped by {type(fault).__name__}: {fault}")
                raise
            goes_on = f"{lost}; the run goes on by itself from {saved.path.name}, try {tries} of {RESTARTS} from there"
            for line in (*saved.warnings, goes_on):
                run.log(line)
        state, meta = rewound(run, saved, parts.learner.init(session.config.seed)), saved.meta


def _stuck(run: RunDir, name: str, lost: LearnerLost) -> LearnerLost:
    """What to say of a run that loses learners and gets nowhere."""
    return LearnerLost(
        f"{lost}; {RESTARTS} more starts from {name} came no further: look at {run.log_path} for what ends them, then "
        f"`shoal resume {run.path}`"
    )


def rewound(run: RunDir, saved: checkpoint.Checkpoint, like: LearnerState) -> LearnerState:
    """The state of a checkpoint, in the form of `like`; what its run wrote after it is cut or set aside.

    Raises CheckpointError for a state that cannot go on, and changes nothing then.
    """
    state = unpack(saved.arrays, saved.meta, like)
    writer = MetricsWriter(run.metrics_path)
    writer.truncate_after(state.env_steps)
    writer.close()
    checkpoint.set_aside_after(run.checkpoints_path, saved.step)
    return state


def _once(session: Session, parts: Parts, state: LearnerState, meta: dict[str, Any] | None, *, quiet: bool) -> Result:
    run, config, settings = session.run, session.config, session.settings
    run.write_hardware(devices(), config.placement)
    title = f"{session.architecture} · {session.factory.name} · seed {config.seed}"
    if config.placement:
        title = f"{title} · {config.placement}"
        run.log(f"placement {config.placement}")
    console = Console(config.env_steps, title=title, stream=io.StringIO() if quiet else None)
    stop = StopWhen(settings["stop_return"], settings["stop_minutes"])
    recorder = Recorder(run, config, console, stop, architecture=session.architecture, order=settings["order"])
    if settings["tensorboard"]:
        recorder.events = EventWriter(run.path / FOLDER, state.env_steps)
    if meta is not None:
        recorder.restore(meta)
    try:
        return session.train(recorder, parts, state)
    finally:
        with contextlib.suppress(ShoalError):  # nothing was written yet, or the disk is full: the fault itself says so
            write_report([run.path])
