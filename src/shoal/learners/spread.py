# SPDX-License-Identifier: Apache-2.0
"""Learners that work side by side on shares of one batch, on one device or several: synchronous data parallelism.

A learner's share is a range of the batch's environments; a device takes the shares of as many learners, joined. Losses
add up their sums over devices (`losses.across`), each device's gradient is that of its share of the loss, these are
summed, and only then clipped and applied, everywhere alike: params and moments are the same on all devices, bit for
bit. So what is computed depends on the number of learners, and on devices only in the order of additions.

One thread of a process launches programs for several devices, one at a time; what acts meanwhile uses other devices
(`agents.devices`), since a collective that waits for a device which somebody else keeps busy may wait for ever.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from shoal.learners.base import WITHOUT_TIME, env_steps_in
from shoal.losses.across import across
from shoal.trees import tree_map
from shoal.types import Trajectory

AXIS = "learner"
SAME = PartitionSpec()
"""the same on every device"""
ROWS = PartitionSpec(AXIS)
"""[N, ...] or [B, ...], a share of the first axis on each"""
COLUMNS = PartitionSpec(None, AXIS)
"""[K, N] or [T, B, ...], a share of the second axis on each"""
AXES = {SAME: None, ROWS: 0, COLUMNS: 1}
"""which axis is shared out"""
BATCH = Trajectory(*(ROWS if name in WITHOUT_TIME else COLUMNS for name in Trajectory._fields))


class Spread:
    """How a batch is shared out.

    Args:
      learners: that many shares.
      devices: those that compute; learners must be a multiple of their number. None: JAX's default device.
      noise: measure the noise of gradients; where one device drives all learners, it then works out theirs apart.

    Check: with the same learners, any devices give the same update at rtol 1e-5.
    """

    def __init__(self, learners: int = 1, devices: Sequence[Any] | None = None, *, noise: bool = False):
        several = devices is not None and len(devices) > 1
        self.learners, self.noise = learners, noise
        self.mesh = Mesh(np.array(devices), (AXIS,)) if several else None
        self.devices = len(devices) if devices is not None and several else 1
        self.processes = len({device.process_index for device in devices}) if devices is not None and several else 1

    def compiled(self, fn: Callable, given: tuple, gives: Any) -> Callable:
        """fn, compiled. Over several devices it runs once on each, on the device's share of its arguments.

        Args:
          given, gives: SAME, ROWS, COLUMNS or BATCH for each argument, and for the result or its parts.
        """

        def on_share(*args: Any) -> Any:
            with across(AXIS):
                return fn(*args)

        if self.mesh is None:
            return jax.jit(self._one_by_one(on_share, given, gives) if self.noise else fn)
        shared_out = jax.shard_map(on_share, mesh=self.mesh, in_specs=given, out_specs=gives, check_vma=False)
        return jax.jit(shared_out, in_shardings=jax.tree.map(self._placed, given))

    def place(self, batch: Trajectory) -> Trajectory:
        """The batch, or this process's part of it, with each device's share on that device."""
        if self.mesh is None:
            return batch
        parts = zip(batch, BATCH, strict=True)
        return Trajectory(*(tree_map(partial(self._put, spec), part) for part, spec in parts))

    def place_groups(self, groups: Any) -> Any:
        """Minibatches [K, N, ...], or this process's part of each, with each device's share on that device."""
        return groups if self.mesh is None else tree_map(partial(self._put, COLUMNS), groups)

    def place_rows(self, order: np.ndarray) -> Any:
        """Row numbers [K, N], as `rows_on_devices` gives them, each device's share on that device."""
        if self.mesh is None:
            return order
        return self._put(COLUMNS, np.split(order, self.processes, 1)[jax.process_index()])

    def env_steps_in(self, batch: list[Trajectory]) -> int:
        """Valid agent steps, those of all processes."""
        own = env_steps_in(batch)
        return own if self.processes == 1 else int(process_allgather(np.int32(own)).sum())

    def rows_on_devices(self, orders: Sequence[np.ndarray], envs: int, *, whole_envs: bool) -> np.ndarray:
        """The learners' orders of their own rows as orders of each device's rows.

        Args:
          orders: for each learner [K, n] row numbers of its share, counted t * envs + env, or env where whole_envs.
          envs: environments of a learner's share.
          whole_envs: what is ordered are environments and not rows.

        Returns [K, learners * n] int32: the learners' rows side by side, counted within their device's share.

        Check: on one device, the rows that learner i names are rows of environments i * envs to (i + 1) * envs.
        """
        per_device = 1 if self.mesh is None and self.noise else self.learners // self.devices
        if per_device == 1:
            return np.concatenate(orders, 1)
        moved = []
        for i, order in enumerate(orders):
            row, env = (0, order) if whole_envs else np.divmod(order, envs)
            moved.append(row * (per_device * envs) + i % per_device * envs + env)
        return np.concatenate(moved, 1).astype(np.int32)

    def _one_by_one(self, fn: Callable, given: tuple, gives: Any) -> Callable:
        """fn on every learner's share, on one device."""
        axes = jax.tree.map(AXES.get, given)

        def run(*args: Any) -> Any:
            shares = tuple(
                jax.tree.map(lambda axis, part: self._cut(axis, part), axis, arg, is_leaf=lambda x: x is None)
                for axis, arg in zip(axes, args, strict=True)
            )
            out = jax.vmap(fn, in_axes=axes, out_axes=0, axis_name=AXIS, axis_size=self.learners)(*shares)
            return jax.tree.map(_whole, gives, out)

        return run

    def _cut(self, axis: int | None, tree: Any) -> Any:
        """Arrays with one more axis, that of learners, before the one that they share."""
        if axis is None:
            return tree
        return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], self.learners, -1, *x.shape[axis + 1 :]), tree)

    def _put(self, spec: PartitionSpec, own: Any) -> Any:
        """An array of which this process holds its part, which is all of it where there is only one."""
        to = self._placed(spec)
        if self.processes == 1:
            return jax.device_put(own, to)
        return jax.make_array_from_process_local_data(to, np.asarray(own))

    def _placed(self, spec: PartitionSpec) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, spec)


def _whole(spec: PartitionSpec, shares: Any) -> Any:
    """Arrays [learners, ...] of what all learners give, as if one had: any one's, or their shares side by side."""
    if spec == SAME:
        return jax.tree.map(lambda x: x[0], shares)
    axis = AXES[spec]
    return jax.tree.map(lambda x: jnp.concatenate(list(x), axis), shares)


ALONE = Spread()
"""one learner on one device"""
