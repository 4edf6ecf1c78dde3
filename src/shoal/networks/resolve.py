# SPDX-License-Identifier: Apache-2.0
"""From a network's name, `module:Class` or a class to something that can be built for an environment."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from shoal.errors import ConfigError
from shoal.types import EnvSpec

NAMES = ("auto", "mlp", "nature_cnn")

NetworkClass = Callable[..., Any]
"""called as (spec, key), returns an Equinox module"""


def resolve(network: str | NetworkClass, spec: EnvSpec) -> NetworkClass:
    """The network class for a name, `package.module:Class` or a class itself; `auto` looks at the observation.

    Raises ConfigError in one line where the name is unknown, cannot be imported, or cannot see this observation.
    """
    if not isinstance(network, str):
        return network
    if network == "auto":
        network = "nature_cnn" if len(spec.obs.shape) == 3 else "mlp"
    if ":" in network:
        return _import(network)
    if network == "mlp":
        from shoal.networks.mlp import Mlp

        return Mlp
    if network == "nature_cnn":
        return _nature_cnn(spec)
    nearest = difflib.get_close_matches(network, NAMES, n=1) or NAMES
    raise ConfigError(
        f"network {network!r} is unknown; use {' or '.join(nearest)}, or your own as package.module:Class"
    )


def _nature_cnn(spec: EnvSpec) -> NetworkClass:
    shape = spec.obs.shape
    if len(shape) != 3 or min(shape[1:]) < 36:
        raise ConfigError(
            f"network 'nature_cnn' needs frames [stack, height, width] of 36x36 or more, not {list(shape)}; use mlp"
        )
    from shoal.networks.conv import NatureCnn

    return NatureCnn


def _import(path: str) -> NetworkClass:
    module_name, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as fault:  # whatever a user's module does when it is imported
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())
        raise ConfigError(
            f"network {path!r} cannot be imported ({reason}); give package.module:Class, seen from here"
        ) from fault
