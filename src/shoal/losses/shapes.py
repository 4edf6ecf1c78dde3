# SPDX-License-Identifier: Apache-2.0
"""Checks at the boundary of every loss: a wrong shape is refused in one line, not broadcast into a wrong number."""

from typing import Any

import jax.numpy as jnp

Array = Any


def require_equal_shapes(**arrays: Array) -> tuple[int, ...]:
    """The one shape that all arrays share.

    Raises:
      ValueError: names every array with its shape.

    Check: [T, B] beside [B] is refused, although it would broadcast.
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    first = next(iter(shapes.values()))
    if any(shape != first for shape in shapes.values()):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"shapes differ: {listed}; pass arrays of one shape")
    return first


def require_steps(value: Array, flags: dict[str, Array], **rows: Array) -> None:
    """Refuse anything but value [T+1, B], boolean flags [T, B] and rows [T, B] with T at least 1.

    Raises:
      ValueError: names the array, what it is and what it should be.
    """
    shape = require_equal_shapes(**rows, **flags)
    if len(shape) != 2 or shape[0] < 1:
        raise ValueError(f"{next(iter(rows or flags))} has shape {list(shape)}; pass [T, B] with T at least 1")
    expected = (shape[0] + 1, shape[1])
    if jnp.shape(value) != expected:
        raise ValueError(
            f"value has shape {list(jnp.shape(value))} beside rows of {list(shape)}; pass {list(expected)}: "
            "one value for each row of obs, the last for bootstrapping"
        )
    for name, flag in flags.items():
        if jnp.result_type(flag) != jnp.bool_:
            raise ValueError(f"{name} is {jnp.result_type(flag)}; pass bool, or two flags could be swapped unseen")
