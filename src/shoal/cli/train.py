# SPDX-License-Identifier: Apache-2.0
"""`shoal train ARCH --env ENV`: fields come from that architecture's Config, their defaults from its presets."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from shoal.architectures import presets, registry
from shoal.architectures.optimisation import DEVICE_FIELDS, prepare_devices
from shoal.cli.list import first_line
from shoal.cli.parsing import flags_of, parse, value_of
from shoal.engines.cluster.options import ClusterOptions
from shoal.envs import resolve
from shoal.errors import ConfigError

PROG = "shoal train"
CLUSTER_FIELDS = tuple(field.name for field in dataclasses.fields(ClusterOptions))
USAGE = """usage: shoal train ARCH --env ENV [fields]

Train an architecture. `shoal train ARCH --help` lists the fields of that architecture; with --env, its defaults there.

architectures: {names}
auto measures the environment first and chooses one of them
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Auto:
    """Fields that every architecture has."""

    env_steps: int | None = None
    """agent steps to train for; default: as the chosen architecture's preset says"""
    seed: int = 0
    """root of all randomness"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every architecture's run is given."""

    env: str
    """environment id: CartPole-v1, ale:pong, package.module:EnvClass; `shoal list envs` has more"""
    engine: Literal["inline", "threads", "processes", "ray", "simulated"] | None = None
    """where the workers run; default: inline where one actor and the learner take turns anyway, else threads"""
    order: Literal["free", "fixed"] = "free"
    """fixed: data is consumed in one fixed order, so that a run can be repeated exactly"""
    run_dir: Path | None = None
    """folder for everything the run leaves; default: a new one under runs/"""
    env_kwargs: str = "{}"
    """settings of the environment, as a JSON object"""
    network: str = "auto"
    """mlp, nature_cnn, impala_cnn, lstm, gru, your own package.module:Class, or auto: by the form of an observation"""
    stop_return: float | None = None
    """stop once the mean return of the last 100 episodes is at least this"""
    stop_minutes: float | None = None
    """stop after this many minutes"""
    tensorboard: bool = False
    """also write metrics as TensorBoard's events, into the run's folder"""
    hang_seconds: float = 60.0
    """on processes: a worker that does nothing for so many seconds is taken for stuck and ended"""
    address: str | None = None
    """on ray: host:port of a cluster's head, or auto for the one that this machine belongs to; default: a cluster of
    this machine alone"""
    actor_cpus: float = 1.0
    """on ray: processors of a node that a worker reserves"""
    node_ip: str | None = None
    """on ray: this machine's address as other nodes reach it; default: the one that Ray knows"""
    compress: Literal["auto", "always", "never"] = "auto"
    """on ray: LZ4 between nodes; auto: where the link is slow enough to make it pay"""


def run(argv: Sequence[str]) -> int:
    """Parse, check what needs no JAX, then train."""
    if not argv:
        raise ConfigError(f"{PROG} needs an architecture: {', '.join(registry.ARCHITECTURES)}; see `{PROG} --help`")
    if argv[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(registry.ARCHITECTURES)), end="")
        return 0
    if argv[0].startswith("-"):
        raise ConfigError(f"{PROG}: name the architecture first, for example `{PROG} ppo {shlex.join(argv)}`")
    architecture = argv[0]
    options, config, fields = (parse_auto if architecture == "auto" else parse_fields)(architecture, argv[1:])

    from shoal import training

    result = training.train(
        architecture,
        options.env,
        config=config,
        **fields,
        engine=options.engine,
        order=options.order,
        run_dir=options.run_dir,
        network=options.network,
        env_kwargs=read_env_kwargs(options.env_kwargs),
        stop_return=options.stop_return,
        stop_minutes=options.stop_minutes,
        hang_seconds=options.hang_seconds,
        tensorboard=options.tensorboard,
        cluster={name: getattr(options, name) for name in CLUSTER_FIELDS},
        command=["shoal", "train", *argv],
    )
    return say_where(result)


def say_where(result: Any) -> int:
    """Print why training ended early, if it did, and where everything is; the run's exit code."""
    if result.stop_reason:
        print(f"stopped:    {result.stop_reason}")
    print(f"run folder: {result.run_dir}")
    print(f"report:     {result.run_dir / 'report.html'}")
    if result.exit_code:
        print(f"continue:   shoal resume {shlex.quote(str(result.run_dir))}")
    return result.exit_code


def parse_auto(_architecture: str, argv: Sequence[str]) -> tuple[Options, None, dict[str, Any]]:
    """(options, no config yet, fields) of a command line that leaves the choice to what is measured."""
    form = dataclasses.make_dataclass(
        "Train",
        [("run", tyro.conf.OmitArgPrefixes[Options]), ("fields", tyro.conf.OmitArgPrefixes[Auto])],
        kw_only=True,
    )
    form.__doc__ = "Measure an environment and a network here, choose architecture and layout, say why, and train."
    parsed = parse(form, argv, f"{PROG} auto", flags_of(Options) + flags_of(Auto))
    given = dataclasses.asdict(parsed.fields)
    return parsed.run, None, {name: value for name, value in given.items() if value is not None}


def parse_fields(architecture: str, argv: Sequence[str]) -> tuple[Options, Any, dict[str, Any]]:
    """(options, config, no further fields) of a command line; the preset for the named environment supplies the
    defaults.

    Raises:
      ConfigError, EnvironmentFault: also what an unknown or broken environment raises, before JAX is imported.
    """
    module = registry.load(architecture)
    env = value_of("--env", argv)
    given = {name: value_of(f"--{name.replace('_', '-')}", argv) for name in DEVICE_FIELDS}
    prepare_devices({name: value for name, value in given.items() if value is not None})
    config = module.Config() if env is None else preset_for(architecture, env, value_of("--env-kwargs", argv) or "{}")
    form = dataclasses.make_dataclass(
        "Train",
        [
            ("run", tyro.conf.OmitArgPrefixes[Options]),
            ("config", Annotated[tyro.conf.OmitArgPrefixes[module.Config], tyro.conf.arg(name=architecture)], config),
        ],
        kw_only=True,
    )
    form.__doc__ = f"{first_line(module.__doc__)}\n\n`shoal describe {architecture}` draws its data flow."
    parsed = parse(form, argv, f"{PROG} {architecture}", flags_of(Options) + flags_of(module.Config))
    return parsed.run, parsed.config, {}


def read_env_kwargs(text: str) -> dict[str, Any]:
    """The JSON object of --env-kwargs.

    Raises:
      ConfigError: not JSON, or not an object.
    """
    try:
        settings = json.loads(text)
    except ValueError as fault:
        raise ConfigError(f"--env-kwargs {text!r} is not JSON ({fault}); write it like '{{\"name\": 1}}'") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"--env-kwargs {text!r} is no JSON object; write it like '{{\"name\": 1}}'")
    return settings


def preset_for(architecture: str, env: str, env_kwargs: str = "{}") -> Any:
    """The architecture's settings for an environment, which is made once to learn its form."""
    return presets.preset(architecture, resolve(env, read_env_kwargs(env_kwargs)).spec)
