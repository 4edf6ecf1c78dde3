# SPDX-License-Identifier: Apache-2.0
"""`shoal evaluate RUN_DIR`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from shoal.cli.parsing import open_run, parse_command
from shoal.errors import ConfigError

MISSED = 1
SHOWN = ("episodes", "return_mean", "return_std", "return_min", "return_max", "length_mean")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play episodes with the policy of a run's newest checkpoint, on environments it was not trained on."""

    run_dir: Annotated[Positional[Path], arg(metavar="RUN_DIR")]
    """the run's folder"""
    episodes: int = 100
    """how many episodes to play to their end"""
    best: bool = False
    """take the checkpoint whose last 100 episodes had the highest mean return, not the newest"""
    stochastic: bool = False
    """draw actions from the policy instead of taking the most probable one"""
    at_least: float | None = None
    """exit with code 1 if the mean return is below this"""
    json: Path | None = None
    """also write what was measured to this file"""
    video: Path | None = None
    """also film one more episode, with the likeliest actions, to this .gif or .mp4 file"""


def run(argv: Sequence[str]) -> int:
    """Play, print the returns, and say by the exit code whether --at-least was met."""
    form = parse_command(Evaluate, argv, "shoal evaluate")
    if form.episodes < 1:
        raise ConfigError(f"--episodes {form.episodes} is not a number of episodes; give 1 or more")
    open_run(form.run_dir)

    from shoal import training

    found = training.evaluate(
        form.run_dir, form.episodes, deterministic=not form.stochastic, best=form.best, video=form.video
    )
    if form.json is not None:
        write_json(form.json, found)
    mean = found["return_mean"]
    for name in SHOWN:
        value = found[name]
        print(f"{name:<14}{value:,.2f}" if isinstance(value, float) else f"{name:<14}{value}")
    if form.video is not None:
        print(describe_film(found["video"]))
    if form.at_least is None:
        return 0
    met = mean >= form.at_least  # NaN is not met
    print(f"mean return {mean:.1f} is {'at least' if met else 'below'} {form.at_least:g}")
    return 0 if met else MISSED


def describe_film(film: dict) -> str:
    """One line about the film, which says so where it holds only the beginning of an episode."""
    if film["whole"]:
        return f"video         {film['path']}: {film['length']} steps, return {film['return']:,.2f}"
    return f"video         {film['path']}: the first {film['length']} steps of an episode that went on"


def write_json(path: Path, found: dict) -> None:
    """Raises ConfigError where the file cannot be written."""
    try:
        path.write_text(json.dumps(found, indent=2) + "\n")
    except OSError as fault:
        raise ConfigError(f"{path} cannot be written ({fault.strerror}); name another file with --json") from None
