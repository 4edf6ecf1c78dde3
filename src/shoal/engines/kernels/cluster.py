# SPDX-License-Identifier: Apache-2.0
"""Workers as processes on the nodes of a cluster, in free and in fixed order.

As on one machine (`kernels.processes`), with each child behind an agent of its node. Wires are in the main process;
arrays go from node to node. A worker whose node is gone is started anew on another one.
"""

from collections.abc import Callable
from typing import Any

from shoal.engines.cluster.fleet import NodeLost
from shoal.engines.cluster.spread import SpreadVector
from shoal.engines.faults import WouldWait
from shoal.engines.kernels.base import Kernel
from shoal.engines.kernels.processes import FixedProcessKernel, Processes, seat_of
from shoal.engines.kernels.threaded import ThreadedKernel
from shoal.engines.remote.far import FarShadow
from shoal.engines.remote.shadow import Shadow
from shoal.engines.wires.vector import Vector
from shoal.engines.worker import Worker
from shoal.errors import ConfigError


class Cluster(Processes):
    """What both kernels of clusters share."""

    via = "network"

    def __init__(self, engine: Any, *args: Any, **settings: Any):
        super().__init__(engine, *args, **settings)
        if engine.cluster is None:
            raise ConfigError("the engine ray needs a cluster: make_engine('ray', cluster=...)")
        self._cluster = engine.cluster
        self.fleet = engine.cluster.fleet
        self.host = self.fleet.address[0]

    def run(self, root: Worker, body: Callable[[], Any]) -> Any:
        try:
            return super().run(root, body)
        finally:
            self._cluster.release()

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        self._cluster.reserve(path, role, first, count)

    def allocate(self, size: int) -> tuple[Any, Any]:
        return Kernel.allocate(self, size)

    def _preload(self) -> None:
        self.fleet.preload(self.engine.preload)

    def _shadow(self, worker: Worker, header: dict[str, Any]) -> Shadow:
        while True:
            node = self._cluster.node_for(worker.path, worker.role, worker.index)
            try:
                child = self.fleet.launch(node, header, seat_of(worker))
                break
            except NodeLost:
                if self.fixed:
                    raise
        worker.engine.born(worker, child.pid, node.name)
        return FarShadow(self, worker, child, self.fleet.shelf)


class FreeClusterKernel(Cluster, ThreadedKernel):
    """A cluster in free order. Shared vectors lie on its nodes."""

    def park(self, worker: Worker, what: str, detail: str = "", deadline: float | None = None) -> bool:
        if worker.shadow is not None and not worker.shadow.patient:
            raise WouldWait
        return super().park(worker, what, detail, deadline)

    def vector(self, *args: Any) -> Vector:
        return SpreadVector(self._cluster, *args)


class FixedClusterKernel(Cluster, FixedProcessKernel):
    """A cluster in fixed order."""
