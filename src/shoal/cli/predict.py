# SPDX-License-Identifier: Apache-2.0
"""`shoal predict ARCH --profile FILE [--machine NAME|FILE] [fields]`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from shoal.architectures import presets, registry
from shoal.cli.list import first_line
from shoal.cli.parsing import flags_of, parse, value_of
from shoal.errors import ConfigError
from shoal.records.files import replace_json

PROG = "shoal predict"
USAGE = """usage: shoal predict ARCH --profile FILE [--machine NAME|FILE] [fields]

Predict an architecture on a machine from a profile that `shoal advise --json FILE` measured: its own program runs in
simulated time. `shoal predict ARCH --help` lists the fields of that architecture.

architectures: {names}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to predict from and for."""

    profile: Path
    """what `shoal advise --json FILE` wrote"""
    machine: str = "here"
    """here (what the profile was measured on), laptop, workstation, a shape such as 4x32 (nodes x cores), or a JSON
    file; with accelerators: workstation+1xa100, 4x32+8xa100 (of a node)"""
    engine: Literal["inline", "threads", "processes", "ray"] = "processes"
    """whether workers share an interpreter, and what messages cost; inline: one actor and its learner take turns; ray:
    over agents of nodes, as on machines of several nodes where the profile has that (shoal advise --engine ray)"""
    act_on: Literal["cpu", "gpu"] | None = None
    """where to act; none: where one call costs less"""
    learn_on: Literal["cpu", "gpu"] | None = None
    """where to learn; none: where one update costs less"""
    env_times: float = 1.0
    """what if an environment step took so many times as long; below 1: a faster one"""
    over: str | None = None
    """a curve: one field with several values, such as num_actors=1,2,4,8"""
    json: Path | None = None
    """also write the prediction, and those of the curve, to this file"""


def run(argv: Sequence[str]) -> int:
    """Predict and print."""
    from shoal.placement.machines import machine_named
    from shoal.placement.prediction import over, predict
    from shoal.placement.profile import check_writable, read_profile
    from shoal.placement.render_prediction import render, render_over

    if not argv:
        raise ConfigError(f"{PROG} needs an architecture: {', '.join(registry.ARCHITECTURES)}; see `{PROG} --help`")
    if argv[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(registry.ARCHITECTURES)), end="")
        return 0
    module = registry.load(argv[0])
    path = value_of("--profile", argv)
    profile = None if path is None else read_profile(Path(path))
    config = module.Config() if profile is None else presets.preset(argv[0], profile.env.spec())
    options, config = parse_fields(argv, module, config)
    profile = read_profile(options.profile) if profile is None else profile
    if not options.env_times > 0:
        raise ConfigError(f"--env-times {options.env_times} must be above 0")
    machine = machine_named(options.machine, profile)
    if options.json is not None:
        check_writable(options.json)
    how: dict[str, Any] = {name: getattr(options, name) for name in ("engine", "env_times", "act_on", "learn_on")}
    field, values = ("", []) if options.over is None else read_over(options.over, config)
    found = predict(profile, argv[0], machine, config, **how)
    curve = over(profile, argv[0], machine, config, field, values, **how)
    if options.machine == "here":
        note_differences(profile)
    print(render(profile, found))
    if values:
        print(render_over(field, values, curve))
    if options.json is not None:
        replace_json(options.json, {"prediction": found, "over": field or None, "curve": curve})
        print(f"\nwritten: {options.json}")
    return 0


def parse_fields(argv: Sequence[str], module: Any, config: Any) -> tuple[Options, Any]:
    """(options, config) of a command line; `config` supplies the defaults."""
    form = dataclasses.make_dataclass(
        "Predict",
        [
            ("how", tyro.conf.OmitArgPrefixes[Options]),
            ("config", Annotated[tyro.conf.OmitArgPrefixes[module.Config], tyro.conf.arg(name=argv[0])], config),
        ],
        kw_only=True,
    )
    form.__doc__ = f"{first_line(module.__doc__)}\n\nPredicted from a profile, in simulated time."
    parsed = parse(form, argv[1:], f"{PROG} {argv[0]}", flags_of(Options) + flags_of(module.Config))
    return parsed.how, parsed.config


def read_over(text: str, config: Any) -> tuple[str, list[int]]:
    """(field, values) of --over. Raises ConfigError for what is no field of whole numbers, or fewer than two values."""
    name, _, words = text.partition("=")
    name = name.strip().replace("-", "_")
    whole = [f.name for f in dataclasses.fields(config) if isinstance(getattr(config, f.name), int)]
    if name not in whole:
        raise ConfigError(f"--over {text!r}: {name!r} is no field of whole numbers; use num_actors=1,2,4")
    try:
        values = [int(word) for word in words.split(",")]
    except ValueError:
        raise ConfigError(f"--over {text!r} has no whole numbers after =; write it like {name}=1,2,4") from None
    if len(values) < 2 or sorted(set(values)) != values:
        raise ConfigError(f"--over {text!r} needs two values or more, growing; write it like {name}=1,2,4")
    return name, values


def note_differences(profile: Any) -> None:
    """Say on standard error, in one line, in what a profile was measured elsewhere or otherwise than now."""
    from shoal.placement.compare import differences

    if others := differences(profile):
        print(f"note: measured with {others}; measure again with shoal advise --json", file=sys.stderr)
