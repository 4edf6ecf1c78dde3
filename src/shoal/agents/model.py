# SPDX-License-Identifier: Apache-2.0
"""A policy and a value over flat params, as objectives, rollouts and actors ask for them: traced by JAX.

Observations pass: mask taken off, numbers normalised, network, mask applied to the head.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from shoal.agents.statistics import Statistics
from shoal.errors import ConfigError
from shoal.losses.distributions import Categorical, DiagGaussian, MultiCategorical, only_legal, split_choices
from shoal.trees import tree_map
from shoal.types import ACTION_MASK, ActionSpec, Array, Box, EnvSpec, MultiDiscrete, PyTree, without_mask

INITIAL_LOG_STD = 0.0
Distribution = Categorical | MultiCategorical | DiagGaussian


class ActorCritic(eqx.Module):
    """The network and, for Box actions, one log standard deviation per dimension that no observation changes."""

    network: Any
    log_std: jax.Array | None


class Model(NamedTuple):
    """What can be asked of a policy and a value; see the module."""

    heads: Callable[[Array, PyTree, PyTree], tuple[Array, Array, PyTree]]
    """(params [P], obs [N, ...], memory [N, ...]) -> (head [N, K], value [N], memory)"""
    unroll: Callable[[Array, PyTree, Array, PyTree], tuple[Distribution, Array]]
    """(params [P], obs [T+1, B, ...], valid [T, B], memory [B, ...]) -> (distribution over the first T * B rows, value
    [T+1, B]): one pass over all rows; memory starts anew after each row that is not valid"""
    in_order: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree]]
    """(params [P], obs [T, B, ...], goes_on [T, B], memory [B, ...]) -> (head [T, B, K], memory after the last row);
    memory starts anew after each row that does not go on"""
    distribution: Callable[[Array, Array], Distribution]
    """(params [P], head [N, K]) -> the policy"""
    statistics: Statistics
    initial_memory: PyTree
    """of one environment, or ()"""
    recurrent: bool
    size: int
    """numbers in the flat params that are the network's"""


def build(network: Callable[..., Any], spec: EnvSpec, key: jax.Array) -> ActorCritic:
    """The module for a key. Raises ConfigError where one observation does not give a head and a value."""
    name = getattr(network, "__name__", str(network))
    return _checked(name, lambda: ActorCritic(network(spec, key), _initial_log_std(spec)), spec)


def flat_maker(network: Callable[..., Any], spec: EnvSpec, *, compiled: bool) -> Callable[[int], np.ndarray]:
    """seed -> initial params [P] of the module that `build` gives.

    Args:
      compiled: in one program for all layers. Large networks are there in less than half of the time, since layers that
        are drawn one by one compile many programs; small ones share these with one another.

    Check: bit for bit the same, compiled or not.
    """

    def flat(key: jax.Array) -> Array:
        return ravel_pytree(eqx.filter(build(network, spec, key), eqx.is_inexact_array))[0]

    at_once = jax.jit(flat) if compiled else flat

    def make(seed: int) -> np.ndarray:
        key = jax.random.key(seed)
        try:
            return np.asarray(at_once(key))
        except Exception:  # noqa: BLE001 - a user's constructor may do what cannot be traced; else this says what is wrong
            return np.asarray(flat(key))

    return make


def _initial_log_std(spec: EnvSpec) -> jax.Array | None:
    return jnp.full(spec.action.shape, INITIAL_LOG_STD) if isinstance(spec.action, Box) else None


def _checked(name: str, make: Callable[[], ActorCritic], spec: EnvSpec) -> ActorCritic:
    """The module that `make` gives, if one observation gives a head and a value."""
    try:
        model = make()
        obs = tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), spec.obs)
        head, value, memory = eqx.filter_eval_shape(_ask, model.network, obs)
    except Exception as fault:
        raise ConfigError(
            f"network {name} cannot be built for {spec.id} or take its observation {_shapes(spec.obs)}: "
            f"{type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else 'no message'}; "
            "build it as Network(spec, key) and call it on one observation"
        ) from fault
    size = spec.action.head_size
    if head.shape != (size,) or value.shape != ():
        raise ConfigError(
            f"network {name} returns shapes {head.shape} and {value.shape}; {spec.id} needs a head "
            f"({size},) and a value ()"
        )
    _refuse_other_memory(name, _initial_memory(model.network), memory)
    return model


def outline(network: Callable[..., Any], spec: EnvSpec) -> ActorCritic:
    """The module with params of 0: drawing them takes seconds for large networks, and actors never need them.

    Raises ConfigError as `build` does. Networks that hold whole numbers or look at their own params are built in full.
    """
    key = jax.random.key(0)
    try:
        shapes = eqx.filter_eval_shape(lambda: ActorCritic(network(spec, key), _initial_log_std(spec)))
    except Exception:  # noqa: BLE001 - whatever a user's constructor does; `build` says what is wrong
        return build(network, spec, key)
    leaves = [leaf for leaf in jax.tree.leaves(shapes) if isinstance(leaf, jax.ShapeDtypeStruct)]
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves):
        return build(network, spec, key)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, shapes)
    return _checked(getattr(network, "__name__", str(network)), lambda: zeros, spec)


def make_model(model: ActorCritic, spec: EnvSpec, statistics: Statistics) -> Model:
    """The functions over flat params [network | statistics | what an architecture adds] for one environment.

    Args:
      model: gives form and constants; its own params are not used.
      spec: as the environment shows itself, mask included.

    Check: an unroll gives what stepping one by one gives, resets in the middle included.
    """
    arrays, static = eqx.partition(model, eqx.is_inexact_array)  # whole numbers are constants, not params
    flat, unravel = ravel_pytree(arrays)
    initial, recurrent = _initial_memory(model.network), is_recurrent(model.network)

    def module(params: Array) -> ActorCritic:
        return eqx.combine(unravel(params[: flat.size]), static)

    def seen(params: Array, obs: PyTree) -> PyTree:
        return statistics.normalise(params, without_mask(obs) if spec.masked else obs)

    def legal(head: Array, obs: PyTree) -> Array:
        return legal_head(head, obs[ACTION_MASK], spec.action) if spec.masked else head

    def heads(params: Array, obs: PyTree, memory: PyTree) -> tuple[Array, Array, PyTree]:
        network = module(params).network
        if recurrent:
            head, value, memory = jax.vmap(lambda one, before: _ask(network, one, before))(seen(params, obs), memory)
        else:
            head, value = over_rows(network, seen(params, obs))
        return legal(head, obs), value, memory

    def distribution(params: Array, head: Array) -> Distribution:
        return distribution_over(spec.action, head, module(params).log_std)

    def unroll(params: Array, obs: PyTree, valid: Array, memory: PyTree) -> tuple[Distribution, Array]:
        rows, goes_on = flat_rows(obs), jnp.concatenate([valid, jnp.ones_like(valid[:1])])
        head, value, _ = over_time(module(params).network, seen(params, rows), goes_on, memory, initial)
        head = legal(head[: valid.size], tree_map(lambda leaf: leaf[: valid.size], rows))
        return distribution(params, head), value.reshape(goes_on.shape)

    def in_order(params: Array, obs: PyTree, goes_on: Array, memory: PyTree) -> tuple[Array, PyTree]:
        rows = flat_rows(obs)
        head, _, memory = over_time(module(params).network, seen(params, rows), goes_on, memory, initial)
        return legal(head, rows).reshape(*goes_on.shape, -1), memory

    return Model(heads, unroll, in_order, distribution, statistics, initial, recurrent, flat.size)


def flat_rows(obs: PyTree) -> PyTree:
    """[T, B, ...] -> [T * B, ...], every array."""
    return tree_map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), obs)


def over_rows(network: Any, obs: Any) -> tuple[jax.Array, jax.Array]:
    """Heads [N, K] and values [N] of observations [N, ...] by a network that carries no memory: by its `rows`, where
    its class has one that belongs to its `__call__`, else one by one under `vmap`.

    Check: a subclass with a `__call__` of its own is asked for that.
    """
    for kind in type(network).__mro__:
        if "rows" in vars(kind):
            return network.rows(obs)
        if "__call__" in vars(kind):
            break
    return jax.vmap(network)(obs)


def over_time(
    network: Any, rows: PyTree, goes_on: Array, memory: PyTree, initial: PyTree
) -> tuple[Array, Array, PyTree]:
    """Heads and values of rows [T * B, ...], and memory after them, of any network; arguments as in `scanned`."""
    if is_recurrent(network):
        return scanned(network, rows, goes_on, memory, initial)
    return *over_rows(network, rows), memory


def scanned(network: Any, rows: PyTree, goes_on: Array, memory: PyTree, initial: PyTree) -> tuple[Array, Array, PyTree]:
    """Heads and values of rows [T * B, ...], and memory [B, ...] after them: encoder and heads over all rows at once,
    only the cell step by step.

    Memory before row t+1 is that after row t, or the initial one where row t [T, B] does not go on: it only reset.
    """
    steps, envs = goes_on.shape
    inputs = jax.vmap(network.encode)(rows)
    inputs = jax.tree.map(lambda x: x.reshape(steps, envs, *x.shape[1:]), inputs)

    def one_step(before: PyTree, row: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        x, goes_on = row
        y, after = jax.vmap(network.step)(x, before)
        return tree_map(lambda new, old: select(goes_on, new, old), after, initial), y

    memory, outputs = jax.lax.scan(one_step, memory, (inputs, goes_on))
    outputs = jax.tree.map(lambda y: y.reshape(steps * envs, *y.shape[2:]), outputs)
    return *jax.vmap(network.heads)(outputs), memory


def select(goes_on: Array, memory: Array, initial: Array) -> Array:
    """Memory [B, ...] where `goes_on` [B], elsewhere the initial one [...]."""
    return jnp.where(goes_on.reshape(-1, *(1,) * (memory.ndim - 1)), memory, initial)


def distribution_over(action: ActionSpec, head: Array, log_std: Array | None) -> Distribution:
    """The policy of heads [..., K]; Box actions have a `log_std` beside it."""
    if log_std is not None:
        return DiagGaussian(head, jnp.ravel(log_std))
    if isinstance(action, MultiDiscrete):
        return MultiCategorical(tuple(Categorical(logits) for logits in split_choices(head, action.sizes)))
    return Categorical(head)


def legal_head(head: Array, mask: Array, action: ActionSpec) -> Array:
    """Heads [..., K] with -inf for what masks [..., K] forbid, choice by choice."""
    if not isinstance(action, MultiDiscrete):
        return only_legal(head, mask)
    pairs = zip(split_choices(head, action.sizes), split_choices(mask, action.sizes), strict=True)
    return jnp.concatenate([only_legal(logits, allowed) for logits, allowed in pairs], -1)


def is_recurrent(network: Any) -> bool:
    """Whether a network carries memory: it then has `initial_memory`, `encode`, `step` and `heads`."""
    return hasattr(network, "initial_memory")


def _initial_memory(network: Any) -> PyTree:
    return tree_map(np.asarray, network.initial_memory()) if is_recurrent(network) else ()


def _ask(network: Any, obs: PyTree, memory: PyTree = None) -> tuple[Array, Array, PyTree]:
    """Head [K], value [] and memory of one observation; without memory given, at the start of an episode."""
    if not is_recurrent(network):
        return *network(obs), ()
    before = network.initial_memory() if memory is None else memory
    y, after = network.step(network.encode(obs), before)
    return *network.heads(y), after


def _refuse_other_memory(name: str, before: PyTree, after: PyTree) -> None:
    forms = [tree_map(_form, tree) for tree in (before, after)]
    if forms[0] != forms[1]:
        raise ConfigError(
            f"network {name} begins with memory {forms[0]} and steps to memory {forms[1]}; let both be dicts or tuples "
            "of arrays of the same shapes"
        )


def _form(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" if hasattr(leaf, "shape") else type(leaf).__name__


def _shapes(obs: PyTree) -> Any:
    return tree_map(lambda leaf: list(leaf.shape), obs)


def layers_of(tree: object) -> dict[str, tuple[int, int]]:
    """Where each layer lies in the flat params of a PyTree: weights and biases of one module are one layer.

    Check: layers cover the flat params, in order and once.
    """
    found: dict[str, tuple[int, int]] = {}
    at = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        owner = path[:-1] if len(path) > 1 else path
        name = jax.tree_util.keystr(owner, simple=True, separator=".")
        first, _ = found.get(name, (at, at))
        found[name] = (first, at + leaf.size)
        at += leaf.size
    return found
