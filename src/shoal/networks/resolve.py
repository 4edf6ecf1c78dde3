# SPDX-License-Identifier: Apache-2.0
"""From a network's name, `module:Class` or a class to something that can be built for an environment."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from shoal.errors import ConfigError
from shoal.trees import tree_leaves
from shoal.types import ArraySpec, EnvSpec

NAMES = ("auto", "mlp", "nature_cnn", "impala_cnn", "lstm", "gru")

NetworkClass = Callable[..., Any]
"""called as (spec, key), returns an Equinox module"""


def resolve(network: str | NetworkClass, spec: EnvSpec) -> NetworkClass:
    """The network class for a name, `package.module:Class` or a class itself; `auto` looks at the observation.

    Observations of several entries get an encoder for each entry, whatever the name. Raises ConfigError in one line
    where the name is unknown, cannot be imported, or cannot see this observation.
    """
    if not isinstance(network, str):
        return network
    if ":" in network:
        return _import(network)
    if network not in NAMES:
        nearest = difflib.get_close_matches(network, NAMES, n=1) or NAMES
        raise ConfigError(
            f"network {network!r} is unknown; use {' or '.join(nearest)}, or your own as package.module:Class"
        )
    seen = spec.seen
    if network in ("lstm", "gru"):
        return _recurrent(network)
    if isinstance(seen.obs, ArraySpec):
        return _over_one_array(network, seen)
    return _over_entries(network, seen)


def _over_one_array(network: str, spec: EnvSpec) -> NetworkClass:
    if network == "mlp" or (network == "auto" and not spec.shows_frames):
        from shoal.networks.mlp import Mlp

        return Mlp
    _require_frames(network, spec, [spec.obs])
    from shoal.networks.conv import NatureCnn
    from shoal.networks.impala import ImpalaCnn

    return ImpalaCnn if network == "impala_cnn" else NatureCnn


def _over_entries(network: str, spec: EnvSpec) -> NetworkClass:
    from shoal.networks.entries import Entries, EntriesImpala

    if network in ("nature_cnn", "impala_cnn"):
        _require_frames(network, spec, tree_leaves(spec.obs))
    return EntriesImpala if network == "impala_cnn" else Entries


def _recurrent(network: str) -> NetworkClass:
    from shoal.networks.recurrent import Gru, Lstm

    return {"lstm": Lstm, "gru": Gru}[network]


def _require_frames(network: str, spec: EnvSpec, leaves: list[ArraySpec]) -> None:
    from shoal.networks.encoders import LEAST_SIDE, holds_frames

    if not any(holds_frames(leaf) for leaf in leaves):
        name = "nature_cnn" if network == "auto" else network
        shown = ", ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in leaves)
        raise ConfigError(
            f"network {name!r} needs frames [stack, height, width] of {LEAST_SIDE}x{LEAST_SIDE} bytes or more, "
            f"{spec.id} shows {shown}; use mlp"
        )


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
