# SPDX-License-Identifier: Apache-2.0
"""A shared vector in free order on a cluster: its shards lie on several nodes, and workers pull and push there.

    worker :node ==grads, params==> shard servers of nodes      side by side, never through the main process
           :node --versions-------> main process                for those who wait for one, and every few milliseconds

The main process says where shards lie, gives every worker its lane of counts, and uses the vector as anybody does. A
node that holds shards and is lost ends the run, since what they had learnt is nowhere else.
"""

import contextlib
import itertools
from typing import Any

import numpy as np

from shoal.engines.cluster.fleet import Node, NodeLost
from shoal.engines.cluster.holders import Holders, Share, User
from shoal.engines.cluster.places import Cluster
from shoal.engines.faults import Ended
from shoal.engines.wires.vector import Vector
from shoal.engines.worker import Worker, current, here

SMALL = 16 * 1024
"""numbers that cross in about the time of a round trip: what is shorter is not spread for its own sake"""
BLOCK = 64 * 1024
"""numbers that a rule is called for at most: what it makes in between then stays in the processor's cache"""
_vectors = itertools.count(1)


class SpreadVector(Vector):
    """See `Vector`; made by kernels of clusters.

    Shards are as many as the program says, or more: one for every node where all are long enough, and none longer than
    two blocks. Neighbours lie together.
    Lags are taken when a push is counted, whether it is too old when it begins.

    Check: whatever workers of other nodes push and pull, the main process moves none of it.
    """

    def __init__(self, cluster: Cluster, system: Any, *args: Any):
        self._nodes, self._fleet = cluster.holders(), cluster.fleet
        self._number = next(_vectors)
        self._known = 0
        """the newest version that this process has heard of"""
        self._lost: NodeLost | None = None
        self._system = system
        super().__init__(system, *args)

    def _begin(self, rule: Any, first: np.ndarray, moments: np.ndarray | None, version: int, samples: int) -> None:
        form, self._known = self.form, version
        self._shares = shares_of(form.size, form.shards, self._nodes, self._number)
        holding = {share.address for share in self._shares}
        self._nodes = [node for node in self._nodes if node.shards in holding]
        self.holders = Holders(self._number, self._shares, form, self._fleet.secret, self._check)
        rows = np.zeros((1 + form.rows, form.size), form.dtype)
        rows[0] = first
        if moments is not None:
            rows[1:] = np.reshape(moments, (form.rows, form.size))
        self._fleet.tell_lost(self._node_lost)
        try:
            self.holders.make(rule, rows, version, samples)
        except BaseException:
            self._let_go()
            raise

    @property
    def kind(self) -> str:
        return "vector"

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        self.reach(at_least)
        flat, version = self.holders.pull(self._user(here()))
        self.heard(version)
        return flat, version

    def reach(self, at_least: int) -> int:
        worker, version = here(), self._known
        if version < at_least:
            version = self.version
        if version < at_least:
            try:
                self.heard(self.holders.want(at_least))
                version = self._waited_for(worker, at_least)
            finally:
                self.holders.want(at_least, waits=False)
        return version

    def _waited_for(self, worker: Worker, at_least: int) -> int:
        """The version, once it is this one or a later one; the nodes know that somebody waits."""
        try:
            with self.kernel.lock:
                if self._known < at_least:  # who pushes tells its shadow here
                    self._line.wait(worker, at_least, self._known)
        except Ended:
            if self.version < at_least:  # the one who pushed it may have died before it told
                raise
        return max(self._known, at_least)

    def reached(self, version: int) -> None:
        self.heard(version)
        super().reached(version)

    def heard(self, version: int) -> None:
        with self.kernel.lock:
            self._known = max(self._known, version)

    @property
    def latest(self) -> int:
        return self._known

    def push(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> int:
        worker = here()
        self.form.refuse(worker, grad, "push")
        args = (self._user(worker), grad, version, float(rate), int(samples), self.max_lag, 0)
        outcome = self.kernel.run_phase(worker, "push", self.holders.push, args)
        self.reached(outcome.version)
        return outcome.version

    def exchange(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> tuple[np.ndarray, int]:
        worker = here()
        self.form.refuse(worker, grad, "exchange")
        args = (self._user(worker), grad, version, float(rate), int(samples), None, 1 + self.form.rows)
        outcome = self.kernel.run_phase(worker, "exchange", self.holders.push, args)
        self.reached(outcome.version)
        return outcome.rows, outcome.version

    @property
    def version(self) -> int:
        """Pushes applied."""
        version = self.holders.look()["version"]
        self.heard(version)
        return version

    @property
    def samples(self) -> int:
        """What the pushes stood for, as their makers say."""
        return self.holders.look()["samples"]

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return self.holders.look()["rejected"]

    def moments(self) -> np.ndarray:
        here()
        return self.holders.moments()

    @property
    def lost(self) -> bool:
        """Never True: raises NodeLost where shards are lost."""
        if self._lost is not None:
            raise self._lost
        return False

    def facts(self, worker: Worker) -> dict[str, Any]:
        return {**super().facts(worker), "vector": self._number, "shares": self._shares}

    def close(self) -> None:
        super().close()
        if self._lost is None:
            with contextlib.suppress(NodeLost):
                self.holders.drop()
        self._let_go()

    def settle(self) -> None:
        if self._lost is None:
            with contextlib.suppress(NodeLost):
                super().settle()

    def _let_go(self) -> None:
        self._fleet.tell_lost(self._node_lost, still=False)
        self.holders.close()

    def _use_lanes(self, count: int) -> None:
        """The nodes see to it."""

    def _counts(self, lanes: int) -> np.ndarray:
        counts = np.zeros((lanes, 8), np.int64)
        found = self.holders.lanes()[:lanes]
        counts[: len(found)] = found
        return counts

    def _user(self, worker: Worker) -> User:
        role, index = self._role(worker)
        return User(self.lane_number(worker), index, worker.epoch, role == self.owner)

    def _check(self) -> None:
        """Raises what makes it useless to wait for a node: that it is gone, or that nobody waits any more."""
        for node in self._nodes:
            if node.lost is not None:
                self._node_lost(node)
        _ = self.lost
        worker = current.get()
        if worker is not None:
            worker.check()

    def _node_lost(self, node: Node) -> None:
        if node not in self._nodes or self._lost is not None:
            return
        self._lost = NodeLost(
            f"node {node.name}, which {node.lost}, held a part of the parameter server of {self.path}, and what that "
            "had learnt is nowhere else; `shoal resume` the run, which goes on from its last checkpoint"
        )
        if not self._system.closing:
            self._system.fail(self._lost)
        self.holders.close()


def shares_of(size: int, shards: int, nodes: list[Node], turn: int) -> list[Share]:
    """Which numbers of a vector [size] lie on which node: at least one shard each where there are as many.

    Args:
      shards: that the program wants; there are more where the vector is long enough for all nodes.
      turn: number of the vector: the next one begins on the next node.
    """
    held = min(len(nodes), max(shards, size // SMALL))
    shards = max(shards, held)
    bounds = np.linspace(0, size, shards + 1).astype(int).tolist()
    first = np.linspace(0, shards, held + 1).astype(int).tolist()
    shares = []
    for i, (a, b) in enumerate(itertools.pairwise(first)):
        address = nodes[(turn + i) % len(nodes)].shards
        assert address is not None
        shares.append(Share(address, bounds[a], bounds[b], max(b - a, (bounds[b] - bounds[a]) // BLOCK)))
    return shares
