# SPDX-License-Identifier: Apache-2.0
"""Sums over a batch whose rows lie on several devices: losses say `total(x)` and need not know of devices.

A compiled update that runs once a device, each on its share of the rows, is traced within `across(axis)`. Everywhere
else a total is the number itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax

Array = Any
_axis: ContextVar[str | None] = ContextVar("shoal_shards", default=None)


@contextmanager
def across(axis: str) -> Iterator[None]:
    """While this is traced, rows are spread over a mapped axis of this name (`jax.shard_map`)."""
    before = _axis.set(axis)
    try:
        yield
    finally:
        _axis.reset(before)


def total(x: Array) -> Array:
    """The sum of x over all shares of the batch; x itself where the batch is whole.

    Its gradient is that of this share's x alone: so where a loss is linear in totals, the gradients of all shares add
    up to the gradient of the whole batch's loss. A total used otherwise (a mean that is subtracted, a deviation that is
    divided by) must stay a constant of the loss.

    Check: gradients of shares, summed, are the gradient of the whole batch, with unequal numbers of valid rows.
    """
    axis = _axis.get()
    return x if axis is None else _summed(axis, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _summed(axis: str, x: Array) -> Array:
    return jax.lax.psum(x, axis)


@_summed.defjvp
def _own_share(axis: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _summed(axis, *primals), tangents[0]
