# SPDX-License-Identifier: Apache-2.0
"""Trees without JAX agree with JAX's own."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from shoal.trees import read_at, tree_items, tree_leaves, tree_map, tree_paths, write_at


class Pair(NamedTuple):
    left: np.ndarray
    right: np.ndarray


def tree(seed=0):
    """Five leaves under dicts and tuples, with names out of order."""
    rng = np.random.default_rng(seed)
    return {
        "b": (rng.random((4, 2)), {"z": rng.random(4), "a": rng.random((4, 1))}),
        "a": Pair(rng.random((4, 3)), rng.random((4,))),
    }


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("made", [tree(), np.arange(3.0), (), {"only": ()}])
def test_leaves_come_in_jax_s_order(made):
    for mine, jax_s in zip(tree_leaves(made), jax.tree.leaves(made), strict=True):
        assert mine is jax_s


def test_paths_lead_to_the_leaves_in_order():
    plain = {"b": ({"x/y": 1, "a": 2},), "a": 3}
    assert tree_paths(plain) == [("a",), ("b", 0, "a"), ("b", 0, "x/y")]
    assert tree_paths(5) == [()]
    assert len(tree_paths(tree())) == len(tree_leaves(tree()))


def test_map_is_jax_s_over_one_and_several_trees():
    assert_equal(tree_map(lambda x: x + 1, tree()), jax.tree.map(lambda x: x + 1, tree()))
    assert_equal(tree_map(np.add, tree(), tree(1)), jax.tree.map(np.add, tree(), tree(1)))
    assert isinstance(tree_map(np.copy, tree())["a"], Pair)


def test_map_refuses_trees_of_another_form():
    with pytest.raises(KeyError):
        tree_map(np.add, {"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="argument 2"):
        tree_map(np.add, (1, 2), (1,))


def test_paths_name_the_way_to_each_leaf():
    assert [path for path, _ in tree_items(tree())] == ["a/0", "a/1", "b/0", "b/1/a", "b/1/z"]
    assert [path for path, _ in tree_items(np.zeros(2))] == [""]


def test_what_is_written_at_an_index_is_read_there():
    rows, values = tree(), read_at(tree(1), 2)
    before = tree_map(np.copy, rows)
    write_at(rows, 1, values)
    assert_equal(read_at(rows, 1), values)
    assert_equal(read_at(rows, [0, 2, 3]), read_at(before, [0, 2, 3]))
    array = np.zeros((2, 3))
    write_at(array, slice(1, 2), np.ones(3))
    assert array.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_reading_an_index_gives_views():
    rows = tree()
    read_at(rows, 0)["b"][1]["a"][:] = 7
    assert rows["b"][1]["a"][0] == 7
