# SPDX-License-Identifier: Apache-2.0
"""`shoal advise --env ENV`."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from shoal.architectures import registry
from shoal.cli.parsing import parse_command
from shoal.cli.train import read_env_kwargs
from shoal.envs import resolve


@dataclass(frozen=True, kw_only=True)
class Advise:
    """Measure an environment and a network on this machine: what to parallelise, when CPU, when GPU."""

    env: str
    """environment id"""
    arch: str | None = None
    """architecture whose stages are shown; default: the one that is recommended"""
    measure: str = ""
    """architectures whose parts are timed too, for shoal predict: names with commas between, or all"""
    network: str = "auto"
    """mlp, nature_cnn, impala_cnn, lstm, gru, your own package.module:Class, or auto: by the form of an observation"""
    env_kwargs: str = "{}"
    """settings of the environment, as a JSON object"""
    json: Path | None = None
    """also write what was measured to this file"""


def read_measured(text: str) -> tuple[str, ...]:
    """The architectures that --measure names. Raises ConfigError for one that does not exist."""
    names = tuple(registry.ARCHITECTURES) if text == "all" else tuple(name.strip() for name in text.split(",") if name)
    for name in names:
        registry.load(name)
    return names


def run(argv: Sequence[str], seconds: float | None = None) -> int:
    """Measure and print the advice.

    Args:
      seconds: how long to measure; None for as long as good figures need.
    """
    form = parse_command(Advise, argv, "shoal advise")
    if form.arch is not None:
        registry.load(form.arch)
    env_kwargs = read_env_kwargs(form.env_kwargs)
    if form.json is not None:
        from shoal.placement.profile import check_writable

        check_writable(form.json)
    resolve(form.env, env_kwargs)  # unknown names are told before JAX starts

    from shoal.placement.advise import SECONDS, advise
    from shoal.placement.render import PLAIN_WIDTH, render

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, color_system=None)
    # a moving line for people only: a log gets the answer and nothing else
    status = console.status("measuring") if console.is_terminal else None
    with status or nullcontext():
        advice, profile = advise(
            form.env,
            form.arch,
            network=form.network,
            env_kwargs=env_kwargs,
            measured=read_measured(form.measure),
            json_path=form.json,
            seconds=SECONDS if seconds is None else seconds,
            tell=(lambda what: status.update(f"measuring {what}")) if status else (lambda _: None),
        )
    console.print(render(advice, profile, console.width), highlight=False)
    if form.json is not None:
        print(f"\nprofile: {form.json}")
    return 0
