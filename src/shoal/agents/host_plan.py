# SPDX-License-Identifier: Apache-2.0
"""From a network to the plan by which NumPy acts with its params, where there is one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from shoal.agents.host_policy import Cell, Entry, Layer, Plan
from shoal.agents.statistics import Place, Statistics
from shoal.networks.encoders import VectorEncoder
from shoal.networks.entries import Entries
from shoal.networks.mlp import Mlp
from shoal.networks.recurrent import Gru, Lstm

CELLS: dict[type, Literal["lstm", "gru"]] = {Lstm: "lstm", Gru: "gru"}


def plan_of(model: Any, statistics: Statistics) -> dict[str, Any] | None:
    """How to act with an `ActorCritic` in NumPy, as `Plan.to_dict` gives it; None where it takes JAX: a network of
    another kind, or one that sees frames.

    Check: the plan's heads equal the network's at 1e-5.
    """
    network, kind = model.network, type(model.network)  # a subclass may compute something else
    places = statistics.places()
    if kind is Mlp:
        tower = _layers(model, lambda m: m.network.policy)
        entries, cell = (_entry(places[0], ()),), None
    elif kind is Entries and _all_vectors(network):
        tower = _layers(model, lambda m: m.network.policy)
        entries, cell = _entries(model, places), None
    elif kind in CELLS and _all_vectors(network):
        tower = (_layer(model, lambda m: m.network.policy),)
        gates = _layer(model, lambda m: m.network.inputs), _layer(model, lambda m: m.network.recurrent)
        entries, cell = _entries(model, places), Cell(CELLS[kind], *gates)
    else:
        return None
    log_std = None if model.log_std is None else place(model, lambda m: m.log_std)
    return Plan(entries, cell, tower, None if log_std is None else (log_std.start, log_std.stop)).to_dict()


def place(model: Any, where: Callable[[Any], Any]) -> slice:
    """The slice of flat params that holds one array of the model."""
    arrays = eqx.filter(model, eqx.is_inexact_array)
    marked = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), arrays)
    marked = eqx.tree_at(where, marked, np.ones(where(arrays).shape, np.float32))
    ones = np.flatnonzero(np.asarray(ravel_pytree(marked)[0]))
    return slice(int(ones[0]), int(ones[-1]) + 1)


def _all_vectors(network: Any) -> bool:
    return all(isinstance(part, VectorEncoder) for part in network.encoder.parts)


def _entries(model: Any, places: list[Place]) -> tuple[Entry, ...]:
    """Every entry with the layers of its encoder."""
    return tuple(
        _entry(found, _layers(model, lambda m, i=i: m.network.encoder.parts[i].layers))
        for i, found in enumerate(places)
    )


def _entry(found: Place, layers: tuple[Layer, ...]) -> Entry:
    return Entry(found.path, found.moments, found.size, layers)


def layers_behind(model: Any, where: Callable[[Any], Any], begin: int) -> tuple[Layer, ...]:
    """Layers of a model whose params come behind `begin` others."""
    return tuple(replace(layer, offset=begin + layer.offset) for layer in _layers(model, where))


def _layers(model: Any, where: Callable[[Any], Any]) -> tuple[Layer, ...]:
    return tuple(_layer(model, lambda m, i=i: where(m)[i]) for i in range(len(where(model))))


def _layer(model: Any, where: Callable[[Any], Any]) -> Layer:
    weight, bias = place(model, lambda m: where(m).weight), place(model, lambda m: where(m).bias)
    if bias.start != weight.stop:
        raise AssertionError("a layer's bias no longer follows its weight in the flat params: mend host_policy")
    layer = where(model)
    return Layer(weight.start, layer.in_features, layer.out_features)
