# SPDX-License-Identifier: Apache-2.0
"""Nested dicts and tuples of arrays, without JAX: what observations are made of where workers must start fast.

A tree is a leaf, a dict of trees by name, or a tuple (also named) of trees. Leaves are visited in JAX's order: dicts by
sorted name. A plain array, the usual case, costs one type check.
"""

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any


def tree_map(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """fn of each leaf and its partners in `rest`, in the form of `tree`.

    Check: equals `jax.tree.map` on trees of dicts and tuples.
    """
    if isinstance(tree, dict):
        return {name: tree_map(fn, tree[name], *(other[name] for other in rest)) for name in sorted(tree)}
    if isinstance(tree, tuple):
        parts = [tree_map(fn, *items) for items in zip(tree, *rest, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return fn(tree, *rest)


def tree_leaves(tree: Tree) -> list[Any]:
    """Leaves in order.

    Check: equals `jax.tree.leaves` on trees of dicts and tuples of arrays.
    """
    return [leaf for _, leaf in tree_items(tree)]


def tree_items(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) in order; a path reads like "camera/0", and is empty for a tree that is one leaf."""
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from tree_items(tree[name], f"{path}/{name}" if path else str(name))
    elif isinstance(tree, tuple):
        for index, part in enumerate(tree):
            yield from tree_items(part, f"{path}/{index}" if path else str(index))
    else:
        yield path, tree


def tree_paths(tree: Tree) -> list[tuple[str | int, ...]]:
    """Names and numbers that lead to each leaf, in order; one empty path for a tree that is one leaf.

    Check: following a path from the root ends at the leaf of the same place in `tree_leaves`.
    """
    if isinstance(tree, dict):
        return [(name, *path) for name in sorted(tree) for path in tree_paths(tree[name])]
    if isinstance(tree, tuple):
        return [(index, *path) for index, part in enumerate(tree) for path in tree_paths(part)]
    return [()]


def write_at(rows: Tree, index: Any, values: Tree) -> None:
    """rows[index] = values, leaf by leaf, in place."""
    if isinstance(rows, dict):
        for name, part in rows.items():
            write_at(part, index, values[name])
    elif isinstance(rows, tuple):
        for part, value in zip(rows, values, strict=True):
            write_at(part, index, value)
    else:
        rows[index] = values


def read_at(rows: Tree, index: Any) -> Tree:
    """rows[index], leaf by leaf: views where indexing gives views."""
    return tree_map(lambda leaf: leaf[index], rows)
