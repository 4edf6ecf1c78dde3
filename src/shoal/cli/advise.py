# SPDX-License-Identifier: Apache-2.0
"""`shoal advise --env ENV`, or `shoal advise --profile FILE` from what was measured before."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from shoal.architectures import registry
from shoal.cli.parsing import parse_command
from shoal.cli.predict import note_differences
from shoal.cli.train import read_env_kwargs
from shoal.envs import resolve
from shoal.errors import ConfigError

PROG = "shoal advise"


@dataclass(frozen=True, kw_only=True)
class Advise:
    """Measure an environment and a network on this machine: what to parallelise, when CPU, when GPU."""

    env: str | None = None
    """environment id; what is to be measured"""
    arch: str | None = None
    """architecture whose stages are shown; default: the one that is recommended"""
    measure: str = ""
    """architectures whose parts are timed too, for shoal predict: names with commas between, or all"""
    engine: Literal["ray"] | None = None
    """ray: its messages are timed too, for shoal predict, over an agent on this machine; takes a few seconds, no Ray"""
    in_step: bool = False
    """updates that two learners share are timed too, for shoal predict --learners; takes some fifteen seconds"""
    network: str = "auto"
    """mlp, nature_cnn, impala_cnn, lstm, gru, your own package.module:Class, or auto: by the form of an observation"""
    env_kwargs: str = "{}"
    """settings of the environment, as a JSON object"""
    max_lag: float | None = None
    """recommend nothing that learns from data more updates old than this, in the mean"""
    max_reuse: float | None = None
    """recommend nothing that learns from each row more often than this"""
    json: Path | None = None
    """also write what was measured, or merged, to this file"""
    profile: Path | None = None
    """instead of measuring: what --json wrote before"""
    compare: Path | None = None
    """show this profile beside the one of --profile"""
    merge: tuple[Path, ...] = ()
    """one profile out of the one of --profile and these, for --json"""


def read_measured(text: str) -> tuple[str, ...]:
    """The architectures that --measure names. Raises ConfigError for one that does not exist."""
    names = tuple(registry.ARCHITECTURES) if text == "all" else tuple(name.strip() for name in text.split(",") if name)
    for name in names:
        registry.load(name)
    return names


def run(argv: Sequence[str], seconds: float | None = None) -> int:
    """Print advice, from measuring or from profiles.

    Args:
      seconds: how long to measure; None for as long as good figures need.
    """
    form = parse_command(Advise, argv, PROG)
    check(form)
    allowed_by(form)
    if form.arch is not None:
        registry.load(form.arch)
    if form.json is not None:
        from shoal.placement.profile import check_writable

        check_writable(form.json)
    if form.profile is not None:
        return read(form, form.profile)
    if form.env is None:
        raise ConfigError(f"missing --env; measure one with --env ENV, or give --profile FILE; see `{PROG} --help`")
    return measure(form, form.env, seconds)


def check(form: Advise) -> None:
    """Raise ConfigError in one line for flags that do not go together."""
    if form.profile is None and (form.compare or form.merge):
        raise ConfigError("--compare and --merge are of profiles; measure with --json FILE first, then --profile FILE")
    if form.profile is None:
        return
    if form.env is not None:
        raise ConfigError(f"--env {form.env} is measured, --profile {form.profile} was before; give one of them")
    if form.engine is not None:
        raise ConfigError(f"--engine {form.engine} says what to measure; leave it out, or give --env")
    if form.in_step:
        raise ConfigError("--in-step says what to measure; leave it out, or give --env")
    if form.network != "auto" or form.env_kwargs != "{}":
        raise ConfigError("--network and --env-kwargs are for measuring; a profile has its own, leave them out")
    if form.compare and form.merge:
        raise ConfigError("--compare and --merge are two things to do; give one of them")
    if form.merge and form.json is None:
        raise ConfigError("--merge makes a profile; say where to write it with --json FILE")
    if form.json and not form.merge:
        raise ConfigError("--json writes what is measured or merged; leave it out with --profile alone")


def read(form: Advise, path: Path) -> int:
    """Advice from a profile on disk, from several merged, or two beside one another. Nothing is measured."""
    from shoal.placement.compare import compare
    from shoal.placement.layouts import check_considered
    from shoal.placement.merge import merge
    from shoal.placement.profile import read_profile, write_profile
    from shoal.placement.render_comparison import render as render_comparison
    from shoal.placement.verdict import advise_on

    check_considered(form.arch)
    profile = read_profile(path)
    if form.compare is not None:
        print(render_comparison(compare(profile, read_profile(form.compare)), str(path), str(form.compare)))
        return 0
    if form.merge:
        profile = merge([profile, *(read_profile(other) for other in form.merge)])
    if form.json is not None:
        write_profile(form.json, profile)
    ran = {trial.architecture for trial in profile.trials}
    if not ran or form.arch not in (None, *ran):
        wanted = "" if form.arch is None else f" of {form.arch}"
        raise ConfigError(f"profile {path} holds no run{wanted}; measure again with shoal advise --json")
    note_differences(profile)
    allowed = allowed_by(form)
    show(advise_on(profile, form.arch, allowed), profile, allowed, form.json)
    return 0


def measure(form: Advise, env: str, seconds: float | None) -> int:
    """Advice from measuring now."""
    env_kwargs = read_env_kwargs(form.env_kwargs)
    resolve(env, env_kwargs)  # unknown names are told before JAX starts

    from shoal.placement.advise import SECONDS, advise

    console = console_for_output()
    # a moving line for people only: a log gets the answer and nothing else
    status = console.status("measuring") if console.is_terminal else None
    with status or nullcontext():
        advice, profile = advise(
            env,
            form.arch,
            network=form.network,
            env_kwargs=env_kwargs,
            measured=read_measured(form.measure),
            engine=form.engine,
            in_step=form.in_step,
            allowed=allowed_by(form),
            json_path=form.json,
            seconds=SECONDS if seconds is None else seconds,
            tell=(lambda what: status.update(f"measuring {what}")) if status else (lambda _: None),
        )
    show(advice, profile, allowed_by(form), form.json)
    return 0


def console_for_output() -> Console:
    """For a terminal as it is; for anything else plain text of one width."""
    from shoal.placement.render import PLAIN_WIDTH

    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, color_system=None)


def allowed_by(form: Advise) -> Any:
    """What --max-lag and --max-reuse allow."""
    from shoal.placement.allowed import Allowed

    return Allowed(max_lag=form.max_lag, max_reuse=form.max_reuse)


def show(advice: Any, profile: Any, allowed: Any, written: Path | None) -> None:
    """Print the advice, the ranking of all whose parts were timed, and where the profile went."""
    from shoal.placement.machines import machine_named
    from shoal.placement.ranking import rank
    from shoal.placement.render import render
    from shoal.placement.render_ranking import render as render_ranking

    console = console_for_output()
    console.print(render(advice, profile, console.width), highlight=False)
    if profile.traces:
        print(render_ranking(profile, rank(profile, machine_named("here", profile), allowed), allowed))
    if written is not None:
        print(f"\nprofile: {written}")
