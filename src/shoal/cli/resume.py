# SPDX-License-Identifier: Apache-2.0
"""`shoal resume RUN_DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from shoal.cli.parsing import open_run, parse_command
from shoal.cli.train import say_where


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Continue a run in its own folder from its newest checkpoint, until what it was started for is reached."""

    run_dir: Annotated[Positional[Path], arg(metavar="RUN_DIR")]
    """the run's folder"""
    env_steps: int | None = None
    """train up to this many agent steps instead"""
    stop_return: float | None = None
    """stop once the mean return of the last 100 episodes is at least this"""
    stop_minutes: float | None = None
    """stop after this many minutes, those before included"""
    address: str | None = None
    """on ray: another cluster than the run had, host:port of its head or auto"""


def run(argv: Sequence[str]) -> int:
    """Parse, check the folder, then go on training."""
    form = parse_command(Resume, argv, "shoal resume")
    open_run(form.run_dir)

    from shoal import training

    fields: dict[str, Any] = {} if form.env_steps is None else {"env_steps": form.env_steps}
    stop_return, stop_minutes = form.stop_return, form.stop_minutes
    return say_where(
        training.resume(
            form.run_dir, stop_return=stop_return, stop_minutes=stop_minutes, address=form.address, **fields
        )
    )
