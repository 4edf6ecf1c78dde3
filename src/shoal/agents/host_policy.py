# SPDX-License-Identifier: Apache-2.0
"""Acting in NumPy: a small policy's forward pass costs less on the host than a call into a compiled function.

A `Plan` says where in the flat params everything lies, so the same params that the learner publishes act here, in
processes that never import JAX, and in exported policies.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from shoal.agents.base import Acting
from shoal.agents.host_actions import HostActions, host_actions
from shoal.agents.host_control import Control, Value, acting_on_control
from shoal.agents.host_values import Reading, acting_on_values
from shoal.trees import tree_map
from shoal.types import ACTION_MASK, Array, EnvSpec, PyTree

LIMIT = np.float32(10.0)
EPSILON = np.float32(1e-8)
"""both as in `shoal.agents.statistics`"""


@dataclass(frozen=True)
class Layer:
    """A linear layer in the flat params: weights [outputs, inputs] from `offset` on, then biases [outputs]."""

    offset: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Entry:
    """An entry of the observation on its way in: flattened, normalised, then through tanh layers."""

    path: tuple[str | int, ...]
    """names and numbers that lead to it; empty where the observation is one array"""
    moments: tuple[int, int] | None
    """where its means and its variances begin in the flat params; None for numbers taken as they are"""
    size: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Cell:
    """A recurrent cell: the gates' shares of input and of memory, and what is made of their sum."""

    kind: Literal["lstm", "gru"]
    inputs: Layer
    recurrent: Layer


@dataclass(frozen=True)
class Plan:
    """Entries side by side, then a cell where there is one, then tanh layers, of which the last is the head."""

    entries: tuple[Entry, ...]
    cell: Cell | None
    tower: tuple[Layer, ...]
    log_std: tuple[int, int] | None
    """where the log standard deviations of Box actions begin and end"""
    reading: Reading | None = None
    """the head holds values of actions, and this is how"""
    control: Control | None = None
    """the head holds a policy over real numbers between -1 and 1, and this is how"""
    critic: tuple[Layer, ...] = ()
    """of the value of an observation and an action behind it, where such a value is asked for"""

    def to_dict(self) -> dict[str, Any]:
        """Words and numbers only, for other processes and for JSON.

        Check: `from_dict` gives the plan back, also through JSON.
        """
        return asdict(self)

    @staticmethod
    def from_dict(facts: dict[str, Any]) -> "Plan":
        """The plan that `to_dict` described."""
        return Plan(
            entries=tuple(
                Entry(
                    tuple(entry["path"]),
                    entry["moments"] and tuple(entry["moments"]),
                    entry["size"],
                    tuple(Layer(**layer) for layer in entry["layers"]),
                )
                for entry in facts["entries"]
            ),
            cell=facts["cell"]
            and Cell(facts["cell"]["kind"], Layer(**facts["cell"]["inputs"]), Layer(**facts["cell"]["recurrent"])),
            tower=tuple(Layer(**layer) for layer in facts["tower"]),
            log_std=facts["log_std"] and tuple(facts["log_std"]),
            reading=facts["reading"] and Reading(**facts["reading"]),
            control=facts["control"] and Control(**facts["control"]),
            critic=tuple(Layer(**layer) for layer in facts["critic"]),
        )


BoundLayer = tuple[np.ndarray, np.ndarray]
"""weight [inputs, outputs] and bias [outputs]"""


class Bound(NamedTuple):
    """Params in the form in which acting is quickest."""

    entries: list[tuple[np.ndarray | None, np.ndarray | None, list[BoundLayer]]]
    """per entry mean, one over the deviation, layers"""
    cell: tuple[BoundLayer, BoundLayer] | None
    tower: list[BoundLayer]
    log_std: np.ndarray | None


def acting_in_numpy(plan: Plan, spec: EnvSpec) -> Acting:
    """How to act by a plan.

    Check: heads, log-probabilities and memory equal those of the JAX policy at 1e-5.
    """
    if plan.reading is not None:
        heads = acting_in_numpy(replace(plan, reading=None), plan.reading.head_spec(spec))
        return acting_on_values(heads, plan.reading, spec)
    if plan.control is not None:
        heads = acting_in_numpy(replace(plan, control=None), plan.control.head_spec(spec))
        return acting_on_control(heads, plan.control, spec, value_by(plan.critic) if plan.critic else None)
    actions: HostActions = host_actions(spec.action)
    features = _plain_numbers if _is_plain(plan) else partial(_features, [entry.path for entry in plan.entries])
    masked, cell = spec.masked, plan.cell
    units = cell.recurrent.inputs if cell else 0
    step = _CELLS[cell.kind] if cell else None

    def memory(num_envs: int) -> PyTree:
        if cell is None:
            return ()
        zeros = np.zeros((num_envs, units), np.float32)
        return (zeros, zeros.copy()) if cell.kind == "lstm" else zeros

    def act(bound: Bound, obs: PyTree, memory: PyTree, noise: Array) -> tuple[Array, Array, PyTree]:
        x = features(bound, obs)
        if step is not None:
            x, memory = step(bound.cell, x, memory)
        head = run_layers(bound.tower, x)
        if masked:
            head = actions.only_legal(head, obs[ACTION_MASK])
        return actions.sample(head, noise, bound.log_std), head, memory

    return Acting(
        memory=memory,
        bind=lambda params: bind(plan, params),
        act=act,
        log_prob=lambda bound, head, action: actions.log_prob(head, action, bound.log_std),
        mode=actions.mode,
        noise=actions.noise,
        noise_size=spec.action.head_size,
        head_size=spec.action.head_size,
        recurrent=cell is not None,
    )


def bind(plan: Plan, params: np.ndarray) -> Bound:
    """Flat params [P] in the form that `act` takes.

    Weights are copied into the order in which a product with a few rows is fastest: once per unroll, used every step.
    """
    layer = partial(bound_layer, params)

    def entry(place: Entry) -> tuple[np.ndarray | None, np.ndarray | None, list[BoundLayer]]:
        layers = [layer(one) for one in place.layers]
        if place.moments is None:
            return None, None, layers
        mean, variance = (params[at : at + place.size] for at in place.moments)
        return mean, 1 / np.sqrt(variance + EPSILON), layers

    return Bound(
        [entry(place) for place in plan.entries],
        None if plan.cell is None else (layer(plan.cell.inputs), layer(plan.cell.recurrent)),
        [layer(place) for place in plan.tower],
        None if plan.log_std is None else params[slice(*plan.log_std)],
    )


def bound_layer(params: np.ndarray, place: Layer) -> BoundLayer:
    """A layer's weight and bias."""
    end = place.offset + place.inputs * place.outputs
    weight = np.ascontiguousarray(params[place.offset : end].reshape(place.outputs, place.inputs).T)
    return weight, params[end : end + place.outputs]


def run_layers(layers: list[BoundLayer], x: np.ndarray) -> np.ndarray:
    """x [B, inputs] through tanh layers and a last one without: [B, K]."""
    for weight, bias in layers[:-1]:
        x = np.dot(x, weight)  # for so few rows a third less time than `@`
        x += bias
        np.tanh(x, out=x)
    weight, bias = layers[-1]
    return np.dot(x, weight) + bias


def value_by(layers: tuple[Layer, ...]) -> Value:
    """What an observation, one array, and an action are worth, by tanh layers over both.

    Check: equals the critic's value in JAX.
    """

    def value(params: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        bound = [bound_layer(params, place) for place in layers]

        def of(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
            lead = action.shape[:-1]
            x = np.concatenate([obs.reshape(*lead, -1).astype(np.float32), action], -1)
            return run_layers(bound, x.reshape(-1, x.shape[-1])).reshape(lead)

        return of

    return value


def reset_memory(memory: PyTree, goes_on: np.ndarray, initial: PyTree) -> PyTree:
    """Memory [B, ...] where `goes_on` [B], elsewhere the initial one [B, ...], in new arrays."""

    def one(now: np.ndarray, first: np.ndarray) -> np.ndarray:
        return np.where(goes_on.reshape(-1, *(1,) * (now.ndim - 1)), now, first)

    return tree_map(one, memory, initial)


def _is_plain(plan: Plan) -> bool:
    """Whether observations are one array that goes into the tower as it is: the usual case has a shorter way."""
    first = plan.entries[0]
    return len(plan.entries) == 1 and not first.path and first.moments is None and not first.layers


def _plain_numbers(_: Bound, obs: np.ndarray) -> np.ndarray:
    x = obs.reshape(len(obs), -1)
    return x if x.dtype == np.float32 else x.astype(np.float32)


def _features(paths: list[tuple[str | int, ...]], bound: Bound, obs: PyTree) -> np.ndarray:
    """Everything that the observation says, [B, F] float32."""
    parts = []
    for path, (mean, factor, layers) in zip(paths, bound.entries, strict=True):
        x = obs
        for name in path:
            x = x[name]
        x = _plain_numbers(bound, x)
        if mean is not None:
            x = (x - mean) * factor
            np.minimum(np.maximum(x, -LIMIT, out=x), LIMIT, out=x)
        for weight, bias in layers:
            x = np.dot(x, weight)
            x += bias
            np.tanh(x, out=x)
        parts.append(x)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function without overflow."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))


def _lstm(cell: tuple[BoundLayer, BoundLayer], x: np.ndarray, memory: PyTree) -> tuple[np.ndarray, PyTree]:
    """Twin of `shoal.networks.recurrent.Lstm`: output [B, H] and memory (output, carried)."""
    (w_in, b_in), (w_re, b_re) = cell
    output, carried = memory
    units = len(w_re)
    gates = np.dot(x, w_in) + b_in + np.dot(output, w_re) + b_re
    opened = _sigmoid(gates[:, : 3 * units])
    candidate = np.tanh(gates[:, 3 * units :])
    carried = opened[:, units : 2 * units] * carried + opened[:, :units] * candidate
    output = opened[:, 2 * units :] * np.tanh(carried)
    return output, (output, carried)


def _gru(cell: tuple[BoundLayer, BoundLayer], x: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Twin of `shoal.networks.recurrent.Gru`: output [B, H], which is also the memory."""
    (w_in, b_in), (w_re, b_re) = cell
    units = len(w_re)
    from_input, from_memory = np.dot(x, w_in) + b_in, np.dot(memory, w_re) + b_re
    opened = _sigmoid(from_input[:, : 2 * units] + from_memory[:, : 2 * units])
    candidate = np.tanh(from_input[:, 2 * units :] + opened[:, :units] * from_memory[:, 2 * units :])
    output = candidate + opened[:, units:] * (memory - candidate)
    return output, output


_CELLS = {"lstm": _lstm, "gru": _gru}
