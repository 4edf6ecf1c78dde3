# SPDX-License-Identifier: Apache-2.0
"""Architectures by name. Loading one imports no JAX, so that help and errors are instant."""

import difflib
import importlib
from types import ModuleType
from typing import Any

from shoal.errors import ConfigError

ARCHITECTURES = {
    "a2c": "shoal.architectures.a2c",
    "ppo": "shoal.architectures.ppo",
    "impala": "shoal.architectures.impala",
    "appo": "shoal.architectures.appo",
    "seed": "shoal.architectures.seed",
    "pg": "shoal.architectures.pg",
    "a3c": "shoal.architectures.a3c",
    "dqn": "shoal.architectures.dqn",
    "rainbow": "shoal.architectures.rainbow",
    "ddpg": "shoal.architectures.ddpg",
    "naf": "shoal.architectures.naf",
    "sac": "shoal.architectures.sac",
    "gorila": "shoal.architectures.gorila",
    "apex": "shoal.architectures.apex",
    "r2d2": "shoal.architectures.r2d2",
}

PLANNED = ("es", "alphazero", "pbt", "ftw", "rapid", "gps")


def promises(module: ModuleType, config: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """("TRAJ actor>learner", ..) what must cross in an architecture under a config, and patterns of what never does."""
    if hasattr(module, "must_cross"):
        return module.must_cross(config), module.must_never_cross(config)
    return module.MUST_CROSS, module.MUST_NEVER_CROSS


def load(name: str) -> ModuleType:
    """The architecture's module: `Config`, `make_agent`, `make_learner`, `run`, and its flow in `__doc__`.

    Raises ConfigError with the nearest names where there is none.
    """
    if name in ARCHITECTURES:
        return importlib.import_module(ARCHITECTURES[name])
    if name in PLANNED:
        raise ConfigError(f"architecture {name!r} does not work yet; use one of {', '.join(ARCHITECTURES)}")
    nearest = difflib.get_close_matches(name, ARCHITECTURES, n=1) or list(ARCHITECTURES)
    raise ConfigError(f"architecture {name!r} is unknown; use {' or '.join(nearest)} (shoal list architectures)")
