# SPDX-License-Identifier: Apache-2.0
"""Cells: gates by hand, against an independent LSTM and GRU, initial weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shoal.networks.encoders import UNITS as FEATURES
from shoal.networks.recurrent import UNITS, UNITS_OVER_FRAMES, Gru, Lstm
from shoal.types import ArraySpec, Discrete, EnvSpec

SPEC = EnvSpec("made:vector", ArraySpec((3,), "float32"), Discrete(4))
FRAMES = EnvSpec("made:frames", ArraySpec((1, 36, 36), "uint8"), Discrete(4))
OPEN, SHUT = 50.0, -50.0


def without_recurrence(network):
    """The network with gates that see nothing but x."""
    return eqx.tree_at(lambda n: n.recurrent, network, jax.tree.map(jnp.zeros_like, network.recurrent))


def gates(*values):
    """x for a step: each value for all units of one gate."""
    return jnp.concatenate([jnp.full(UNITS, value) for value in values])


def test_an_lstm_keeps_forgets_and_takes_in():
    cell = without_recurrence(Lstm(SPEC, jax.random.key(0)))
    carried = jnp.linspace(-1, 1, UNITS)
    memory = (jnp.zeros(UNITS), carried)
    kept, (_, after) = cell.step(gates(SHUT, OPEN, OPEN, 3.0), memory)
    np.testing.assert_allclose(after, carried, atol=1e-6)
    np.testing.assert_allclose(kept, np.tanh(carried), atol=1e-6)
    _, (_, after) = cell.step(gates(SHUT, SHUT, OPEN, 3.0), memory)
    np.testing.assert_allclose(after, 0, atol=1e-6)
    _, (_, after) = cell.step(gates(OPEN, SHUT, OPEN, 0.5), memory)
    np.testing.assert_allclose(after, np.tanh(0.5), atol=1e-6)
    hidden, (output, after) = cell.step(gates(SHUT, OPEN, SHUT, 3.0), memory)
    np.testing.assert_allclose(hidden, 0, atol=1e-6)
    np.testing.assert_array_equal(hidden, output)
    np.testing.assert_allclose(after, carried, atol=1e-6)


def test_a_gru_keeps_forgets_and_takes_in():
    cell = without_recurrence(Gru(SPEC, jax.random.key(0)))
    memory = jnp.linspace(-1, 1, UNITS)
    kept, after = cell.step(gates(OPEN, OPEN, 0.5), memory)
    np.testing.assert_allclose(kept, memory, atol=1e-6)
    np.testing.assert_array_equal(kept, after)
    taken, _ = cell.step(gates(OPEN, SHUT, 0.5), memory)
    np.testing.assert_allclose(taken, np.tanh(0.5), atol=1e-6)


def test_a_gru_s_reset_gate_hides_memory_from_the_candidate():
    cell = Gru(SPEC, jax.random.key(1))
    deaf = eqx.tree_at(
        lambda c: c.recurrent.weight, cell, cell.recurrent.weight.at[: 2 * UNITS].set(0)
    )  # the candidate alone sees memory
    memory = jnp.linspace(-1, 1, UNITS)
    hidden, _ = deaf.step(gates(SHUT, SHUT, 0.5), memory)
    np.testing.assert_allclose(hidden, np.tanh(0.5), atol=1e-6)
    shown, _ = deaf.step(gates(OPEN, SHUT, 0.5), memory)
    expected = np.tanh(0.5 + cell.recurrent.weight[2 * UNITS :] @ memory)
    np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_an_lstm_equals_the_library_s():
    """Equinox orders the gates input, forget, candidate, output."""
    cell = Lstm(SPEC, jax.random.key(2))
    theirs = eqx.nn.LSTMCell(FEATURES, UNITS, key=jax.random.key(3))
    order = np.concatenate([np.arange(UNITS) + UNITS * gate for gate in (0, 1, 3, 2)])
    places = lambda c: (c.weight_ih, c.weight_hh, c.bias)  # noqa: E731
    values = (cell.inputs.weight[order], cell.recurrent.weight[order], cell.inputs.bias[order])
    theirs = eqx.tree_at(places, theirs, values)
    obs = jnp.array([0.3, -1.0, 2.0])
    memory = other = jax.tree.map(jnp.asarray, cell.initial_memory())
    for _ in range(4):
        y, memory = cell.step(cell.encode(obs), memory)
        other = theirs(cell.encoder(obs), other)
        np.testing.assert_allclose(memory[0], other[0], atol=1e-6)
        np.testing.assert_allclose(memory[1], other[1], atol=1e-6)
    np.testing.assert_array_equal(y, memory[0])


def test_a_gru_equals_the_library_s():
    """Equinox orders the gates reset, update, candidate, and has one bias of the candidate behind the reset gate."""
    cell = Gru(SPEC, jax.random.key(2))
    theirs = eqx.nn.GRUCell(FEATURES, UNITS, key=jax.random.key(3))
    places = lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n)  # noqa: E731
    values = (cell.inputs.weight, cell.recurrent.weight, cell.inputs.bias, cell.recurrent.bias[2 * UNITS :])
    theirs = eqx.tree_at(places, theirs, values)
    obs = jnp.array([0.3, -1.0, 2.0])
    memory = other = jnp.asarray(cell.initial_memory())
    for _ in range(4):
        _, memory = cell.step(cell.encode(obs), memory)
        other = theirs(cell.encoder(obs), other)
        np.testing.assert_allclose(memory, other, atol=1e-6)


@pytest.mark.parametrize(("network", "count"), [(Lstm, 4), (Gru, 3)])
def test_initial_weights(network, count):
    cell = network(SPEC, jax.random.key(4))
    for gate in range(count):
        weight = np.asarray(cell.recurrent.weight[gate * UNITS : (gate + 1) * UNITS])
        np.testing.assert_allclose(weight @ weight.T, np.eye(UNITS), atol=1e-5)
    bias = np.asarray(cell.inputs.bias).reshape(count, UNITS)
    np.testing.assert_array_equal(bias[1], 1)  # the gate that keeps
    assert not np.delete(bias, 1, 0).any()
    assert not np.asarray(cell.recurrent.bias).any()
    head, value = cell.heads(jnp.ones(UNITS))
    assert head.shape == (4,)
    assert value.shape == ()


@pytest.mark.parametrize("network", [Lstm, Gru])
def test_over_frames_the_encoder_is_a_trunk_of_convolutions(network):
    cell = eqx.filter_eval_shape(network, FRAMES, jax.random.key(0))
    assert cell.encoder.size == 512
    assert cell.units == UNITS_OVER_FRAMES
    assert jax.tree.leaves(cell.initial_memory())[0].shape == (UNITS_OVER_FRAMES,)
