# SPDX-License-Identifier: Apache-2.0
"""Which node a worker runs on.

What a cluster is to the engine: nodes with agents (`fleet`), a place for every worker, and another one when a node is
gone.
"""

import threading
from collections import Counter
from typing import Protocol

from shoal.engines.cluster.fleet import Fleet, Node, require_nodes


class Cluster(Protocol):
    """Nodes to run workers on."""

    fleet: Fleet

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """Find places for workers of a role that are about to start, their indices from `first` on.

        Raises ConfigError where the cluster has not got what they need.
        """

    def node_for(self, path: str, role: str, index: int) -> Node:
        """The node of a worker that is started now, for the first time or again; waits for one if need be."""
        ...

    def holders(self) -> list[Node]:
        """The nodes that shared vectors may lie on. Raises ConfigError where there is none."""
        ...

    def release(self) -> None:
        """Forget what was reserved: a run is over."""


class Even:
    """Workers spread over the nodes that are there: fewest of their role first, of equals fewest workers."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet
        self._homes: dict[tuple[str, str, int], Node] = {}
        self._turn = threading.Lock()

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """Choose a node for each of them."""
        nodes = require_nodes(self.fleet)
        with self._turn:
            for index in range(first, first + count):
                alike = Counter(node.name for key, node in self._homes.items() if key[:2] == (path, role))
                everybody = Counter(node.name for node in self._homes.values())
                self._homes[path, role, index] = min(nodes, key=lambda node: (alike[node.name], everybody[node.name]))

    def node_for(self, path: str, role: str, index: int) -> Node:
        """The one that was chosen; where that is gone, the one with the fewest workers of those that are left."""
        with self._turn:
            home = self._homes.get((path, role, index))
            if home is None or home.lost is not None:
                everybody = Counter(node.name for node in self._homes.values())
                home = min(require_nodes(self.fleet), key=lambda node: everybody[node.name])
                self._homes[path, role, index] = home
            return home

    def holders(self) -> list[Node]:
        """All nodes."""
        return require_nodes(self.fleet)

    def release(self) -> None:
        """Forget what was chosen."""
        with self._turn:
            self._homes.clear()
