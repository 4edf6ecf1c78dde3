# SPDX-License-Identifier: Apache-2.0
"""`shoal advise --env ENV`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shoal.architectures import registry
from shoal.cli.parsing import parse_command
from shoal.envs import resolve


@dataclass(frozen=True, kw_only=True)
class Advise:
    """Measure an environment and a network on this machine: what to parallelise, when CPU, when GPU."""

    env: str
    """environment id"""
    arch: str = "ppo"
    """architecture whose stages are measured"""
    network: str = "auto"
    """mlp, nature_cnn, your own package.module:Class, or auto: by the shape of an observation"""
    json: Path | None = None
    """also write what was measured to this file"""


def run(argv: Sequence[str]) -> int:
    """Measure and print the advice."""
    form = parse_command(Advise, argv, "shoal advise")
    registry.load(form.arch)
    resolve(form.env)

    from shoal.placement.advise import advise

    advise(env=form.env, arch=form.arch, network=form.network, json=form.json)
    return 0
