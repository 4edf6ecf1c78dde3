# SPDX-License-Identifier: Apache-2.0
"""Which node a worker runs on.

What a cluster is to the engine: nodes with agents (`fleet`), a place for every worker, and another one when a node is
gone.
"""

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
    """Workers spread over the nodes that are there, fewest workers first."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """Any node will do."""

    def node_for(self, path: str, role: str, index: int) -> Node:
        """The node with the fewest workers."""
        return min(require_nodes(self.fleet), key=lambda node: len(node.children))

    def holders(self) -> list[Node]:
        """All nodes."""
        return require_nodes(self.fleet)

    def release(self) -> None:
        """Nothing was reserved."""
