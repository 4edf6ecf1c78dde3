# SPDX-License-Identifier: Apache-2.0
"""Networks: initial weights, batches against rows, and the convolution written as a matrix product."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from shoal.agents.model import over_rows
from shoal.errors import ConfigError
from shoal.networks.conv import LAYERS, NatureCnn, convolve
from shoal.networks.encoders import UNITS
from shoal.networks.entries import Entries, EntriesImpala
from shoal.networks.impala import ImpalaCnn, ImpalaTrunk, max_pool
from shoal.networks.initialise import orthogonal_linear
from shoal.networks.mlp import Mlp
from shoal.networks.recurrent import Gru, Lstm
from shoal.networks.resolve import NAMES, resolve
from shoal.trees import tree_map, tree_paths
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete

VECTOR = EnvSpec("made:vector", ArraySpec((3,), "float32"), Discrete(4))
FRAMES = EnvSpec("made:frames", ArraySpec((4, 36, 40), "uint8"), Discrete(5))
MATRIX = EnvSpec("made:matrix", ArraySpec((3,), "float32"), Box((2, 3), (-1.0,) * 6, (1.0,) * 6))


CHOICES = EnvSpec("made:choices", ArraySpec((3,), "float32"), MultiDiscrete((3, 2)))
TREE = EnvSpec("made:tree", {"b": ArraySpec((2, 2), "float32"), "a": (ArraySpec((3,), "int32"),)}, Discrete(4))
CAMERA = EnvSpec("made:camera", {"camera": FRAMES.obs, "speed": VECTOR.obs}, Discrete(4))
MASKED = EnvSpec("made:masked", {"action_mask": ArraySpec((4,), "bool"), "x": VECTOR.obs}, Discrete(4))


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 8), (8, 3), (5, 5)])
def test_orthogonal_linear(inputs, outputs):
    layer = orthogonal_linear(inputs, outputs, 1.5, jax.random.key(0))
    weight = np.asarray(layer.weight)
    fewer = weight if outputs <= inputs else weight.T
    np.testing.assert_allclose(fewer @ fewer.T, 1.5**2 * np.eye(len(fewer)), atol=1e-5)
    assert not np.asarray(layer.bias).any()


@pytest.mark.parametrize(("spec", "size"), [(VECTOR, 4), (FRAMES, 5), (MATRIX, 6), (CHOICES, 5)])
def test_head_size(spec, size):
    assert spec.action.head_size == size


def zero_obs(spec):
    return tree_map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), spec.obs)


@pytest.mark.parametrize(
    ("network", "spec"),
    [
        (Mlp, VECTOR),
        (Mlp, MATRIX),
        (Mlp, CHOICES),
        (NatureCnn, FRAMES),
        (ImpalaCnn, FRAMES),
        (Entries, TREE),
        (Entries, CAMERA),
        (EntriesImpala, CAMERA),
    ],
)
def test_one_observation_gives_a_head_and_a_value(network, spec):
    model = network(spec, jax.random.key(0))
    head, value = eqx.filter_eval_shape(model, zero_obs(spec))
    assert head.shape == (spec.action.head_size,)
    assert value.shape == ()


def test_the_head_of_a_batch_of_frames_equals_the_heads_of_its_rows():
    model = NatureCnn(FRAMES, jax.random.key(1))
    obs = np.random.default_rng(0).integers(0, 256, (3, *FRAMES.obs.shape)).astype(np.uint8)
    head, value = jax.vmap(model)(obs)
    for row in range(3):
        one_head, one_value = model(obs[row])
        np.testing.assert_allclose(head[row], one_head, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(value[row], one_value, rtol=1e-4, atol=1e-6)


def test_frames_are_scaled_inside():
    model = NatureCnn(FRAMES, jax.random.key(1))
    black, white = (np.full(FRAMES.obs.shape, shade, np.uint8) for shade in (0, 255))
    assert np.isfinite(model(white)[0]).all()
    # biases are 0 at the start, so a black screen gives nothing; a white one is a screen of ones, not of 255s
    np.testing.assert_array_equal(model(black)[0], np.zeros(5))
    assert abs(float(model(white)[1])) < 20


@pytest.mark.parametrize(("filters", "kernel", "stride"), LAYERS)
def test_convolve_equals_the_library(filters, kernel, stride):
    channels, keys = 3, jax.random.split(jax.random.key(2))
    image = jax.random.normal(keys[0], (21, 18, channels))
    weight = jax.random.normal(keys[1], (kernel, kernel, channels, filters))
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(image[None], weight, (stride, stride), "VALID", dimension_numbers=numbers)[0]
    blocks = kernel // stride
    rows = weight.reshape(blocks, stride, blocks, stride, channels, filters).transpose(0, 2, 1, 3, 4, 5)
    found = convolve(image, rows.reshape(-1, filters), kernel, stride)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", [TREE, CAMERA], ids=lambda spec: spec.id)
def test_the_head_changes_with_every_entry(spec):
    model = Entries(spec, jax.random.key(0))
    heads = jax.jit(lambda obs: model(obs)[0])
    obs = zero_obs(spec)
    plain = heads(obs)
    for path in tree_paths(spec.obs):
        changed = jax.tree.map(lambda leaf: leaf, obs)
        entry = changed[path[0]]
        changed[path[0]] = jax.tree.map(lambda leaf: leaf + 100, entry)
        assert np.abs(heads(changed) - plain).max() > 1e-5


def test_the_features_of_an_entry_depend_on_no_other():
    encoder = Entries(TREE, jax.random.key(0)).encoder
    obs = {"b": jnp.ones((2, 2)), "a": (jnp.arange(3),)}
    one, other = encoder(obs), encoder(obs | {"b": jnp.full((2, 2), 5.0)})
    assert one.shape == (2 * UNITS,)
    np.testing.assert_array_equal(one[:UNITS], other[:UNITS])  # "a" comes first: sorted by name
    assert np.abs(one[UNITS:] - other[UNITS:]).max() > 0.1


def test_auto_looks_at_the_observation():
    assert resolve("auto", VECTOR) is Mlp
    assert resolve("auto", FRAMES) is NatureCnn
    assert resolve("mlp", FRAMES) is Mlp
    assert resolve(Mlp, VECTOR) is Mlp
    assert resolve("auto", EnvSpec("made:grid", ArraySpec((10, 10, 4), "float32"), Discrete(2))) is Mlp
    assert resolve("auto", TREE) is resolve("mlp", CAMERA) is resolve("nature_cnn", CAMERA) is Entries
    assert resolve("auto", MASKED) is Entries  # the mask is none of its entries
    assert resolve("lstm", VECTOR) is resolve("lstm", CAMERA) is Lstm
    assert resolve("gru", FRAMES) is Gru
    assert resolve("impala_cnn", FRAMES) is ImpalaCnn
    assert resolve("impala_cnn", CAMERA) is EntriesImpala


@pytest.mark.parametrize("shape", [(8, 6, 3), (7, 9, 2)])
def test_max_pool_equals_the_library_in_value_and_gradient(shape):
    image = jax.random.normal(jax.random.key(3), shape)

    def library(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "SAME")

    np.testing.assert_array_equal(max_pool(image), library(image))
    weight = jax.random.normal(jax.random.key(4), library(image).shape)
    gradients = [jax.grad(lambda x, pool=pool: (pool(x) * weight).sum())(image) for pool in (max_pool, library)]
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_a_residual_block_that_adds_nothing_passes_its_input_on():
    trunk = ImpalaTrunk((2, 36, 40), jax.random.key(0))
    stages = tuple((first, *jax.tree.map(jnp.zeros_like, tuple(blocks))) for first, *blocks in trunk.stages)
    silent = eqx.tree_at(lambda t: t.stages, trunk, stages)
    frames = np.random.default_rng(0).integers(0, 256, (2, 36, 40)).astype(np.uint8)
    x = jnp.moveaxis(jnp.asarray(frames), 0, -1) / 255
    for (weight, bias), *_ in trunk.stages:
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x[None], weight, (1, 1), "SAME", dimension_numbers=numbers)[0] + bias
        x = lax.reduce_window(x, -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "SAME")
    expected = jax.nn.relu(trunk.hidden(jax.nn.relu(x).ravel()))
    np.testing.assert_allclose(silent(frames), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(trunk(frames) - expected).max() > 1e-2


def test_the_residual_network_has_fifteen_convolutions_and_the_paper_s_sizes():
    trunk = eqx.filter_eval_shape(ImpalaTrunk, (4, 84, 84), jax.random.key(0))
    filters = [weight.shape for stage in trunk.stages for weight, _ in stage]
    assert len(filters) == 15
    assert [shape[-1] for shape in filters] == [16] * 5 + [32] * 10
    assert trunk.hidden.weight.shape == (256, 11 * 11 * 32)


def test_convolutions_need_frames_somewhere():
    with pytest.raises(ConfigError, match="'nature_cnn' needs frames .* made:tree shows int32") as refused:
        resolve("nature_cnn", TREE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("network", "parts"),
    [
        ("mpl", ("'mpl'", "use mlp")),
        ("qqq", ("'qqq'", *NAMES)),
        ("nature_cnn", ("[3]", "use mlp")),
        ("nowhere:Net", ("nowhere", "package.module:Class")),
        ("math:Net", ("math", "Net")),
        (":Net", (":Net",)),
        ("math:", ("math:",)),
    ],
)
def test_unknown_networks_get_one_line(network, parts):
    with pytest.raises(ConfigError) as refused:
        resolve(network, VECTOR)
    line = str(refused.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_a_module_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("raise RuntimeError('not\\nyet')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="RuntimeError: not yet") as refused:
        resolve("half_written:Net", VECTOR)
    assert "\n" not in str(refused.value)


def test_the_working_directory_is_searched_first(tmp_path, monkeypatch):
    (tmp_path / "own_net_here.py").write_text("class Net: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    assert resolve("own_net_here:Net", VECTOR).__name__ == "Net"


def test_frames_too_small_for_the_convolutions_are_refused():
    tiny = EnvSpec("made:tiny", ArraySpec((4, 20, 20), "uint8"), Discrete(2))
    with pytest.raises(ConfigError, match="36x36"):
        resolve("auto", tiny)


@pytest.mark.parametrize(("network", "spec"), [(Mlp, VECTOR), (Mlp, CHOICES), (Entries, TREE)])
def test_rows_at_once_equal_rows_one_by_one(network, spec):
    rng = np.random.default_rng(0)
    obs = tree_map(lambda leaf: jnp.asarray(rng.integers(0, 9, (6, *leaf.shape)), leaf.dtype), spec.obs)
    arrays, static = eqx.partition(network(spec, jax.random.key(1)), eqx.is_inexact_array)
    arrays = jax.tree.map(lambda x: x + 0.1 * jnp.asarray(rng.normal(size=x.shape), x.dtype), arrays)

    def loss(arrays, ask):
        head, value = ask(eqx.combine(arrays, static))
        return jnp.sum(jnp.sin(head)) + jnp.sum(jnp.cos(value)), (head, value)

    at_once, one_by_one = (
        jax.value_and_grad(loss, has_aux=True)(arrays, ask)
        for ask in (lambda net: net.rows(obs), lambda net: jax.vmap(net)(obs))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), at_once, one_by_one)


def test_a_subclass_with_a_call_of_its_own_is_asked_for_that():
    class Doubled(Mlp):
        def __call__(self, obs):
            head, value = super().__call__(obs)
            return 2 * head, 2 * value

    class Same(Mlp):
        pass

    obs, key = jnp.ones((2, 3)), jax.random.key(0)
    once, twice, same = (over_rows(kind(VECTOR, key), obs) for kind in (Mlp, Doubled, Same))
    for a, b, c in zip(once, twice, same, strict=True):
        np.testing.assert_allclose(2 * a, b, rtol=1e-6)
        np.testing.assert_array_equal(a, c)
