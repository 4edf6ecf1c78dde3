# SPDX-License-Identifier: Apache-2.0
"""`shoal race ARCH... --env ENV --env-steps N`: the same budget for each, one after the other on this machine."""

import dataclasses
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from shoal.architectures import registry
from shoal.cli.parsing import parse_command
from shoal.cli.train import preset_for, read_env_kwargs
from shoal.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Race:
    """Train architectures one after the other on the same environment, steps and seed; compare them in one table."""

    architectures: Annotated[Positional[tuple[str, ...]], arg(metavar="ARCH...")]
    """two or more names"""
    env: str
    """environment id"""
    env_steps: int
    """agent steps each architecture may take"""
    seed: int = 0
    """root of all randomness, the same for each"""
    engine: Literal["inline", "threads", "processes", "ray", "simulated"] | None = None
    """where the workers run; default: what `shoal train` would choose for each"""
    env_kwargs: str = "{}"
    """settings of the environment, as a JSON object"""
    run_dir: Path | None = None
    """folder that gets one run folder per architecture; default: a new one under runs/"""


def run(argv: Sequence[str]) -> int:
    """Train each, then print the table."""
    form = parse_command(Race, argv, "shoal race")
    configs = configs_of(form)
    folder = form.run_dir or Path("runs") / f"race-{datetime.now():%Y%m%d-%H%M%S}"

    from shoal import training
    from shoal.reports.race_table import plain_table, race_table, rich_table

    finished = []
    for name, config in configs.items():
        result = training.train(
            name,
            form.env,
            config=config,
            engine=form.engine,
            run_dir=folder / name,
            env_kwargs=read_env_kwargs(form.env_kwargs),
            command=["shoal", "race", *argv],
        )
        if result.exit_code != 0:
            return result.exit_code
        finished.append(result.run_dir)
    table = race_table(finished)
    if sys.stdout.isatty():
        Console().print(rich_table(table))
    else:
        print(plain_table(table))
    print(f"run folders: {folder}")
    return 0


def configs_of(form: Race) -> dict:
    """Each architecture's preset for the environment, with the race's budget and seed.

    Raises:
      ConfigError: fewer than two names, a name twice, or one that is unknown.
    """
    names = form.architectures
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"a race needs two or more different architectures, got {', '.join(names) or 'none'}")
    for name in names:
        registry.load(name)
    budget = {"env_steps": form.env_steps, "seed": form.seed}
    return {name: dataclasses.replace(preset_for(name, form.env, form.env_kwargs), **budget) for name in names}
