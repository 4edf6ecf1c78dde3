# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster: joined or started, asked for room, watched.

Ray says which nodes there are, keeps room on them (placement groups), starts one agent on every node that gets workers,
and says when a node is gone. What workers say to one another goes over sockets of the run's own (`fleet`, `shelf`), so
that small messages take no turn in Ray's scheduler and no array is pickled.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal.engines.cluster.fleet import Fleet, Node, require_nodes
from shoal.engines.cluster.options import ClusterOptions, require_ray
from shoal.engines.cluster.ray_faults import ClusterLost, explained, missing
from shoal.engines.cluster.ray_start import LOOPBACK, SEAT, in_time, join, prepared_ray, refuses, start_alone
from shoal.errors import ConfigError

ROOM_S = 10.0
"""seconds to wait for room that the cluster has, but others may use"""
AGENTS_S = 60.0
"""seconds for agents to start"""
LOOK_S = 0.5
"""seconds between looks at the cluster"""
HEAD_GONE_S = 10.0
"""seconds without an answer of the head after which it is taken for lost"""
HOME_S = 5.0
"""seconds that a worker waits for the room reserved for it before it is started where there is none"""
NOWHERE_S = 60.0
"""seconds without any node after which a run is over"""
WORD_S = 5.0
"""seconds that Ray may take for what is not waited for"""
ON_ACCELERATORS = ("learner", "inference")
"""roles that compute in batches"""
ON_MANY_NODES = ("learner", "replay")
"""roles whose workers are spread over nodes, as far as there are any: each takes a machine's cores or memory; those
of others share nodes"""


class Room(NamedTuple):
    """What was reserved for workers of a role, a bundle each."""

    first: int
    count: int
    group: Any


class RayCluster:
    """Open as a context.

    Args:
      note: called with a line for whatever happens to the cluster.

    Raises ConfigError in one line for a cluster that cannot be reached or joined.
    """

    def __init__(self, options: ClusterOptions, note: Callable[[str], None] = lambda _: None):
        require_ray()
        self._options, self._note = options, note
        self._own = options.address is None
        self._agents: dict[str, Any] = {}
        """by node id: (the agent's actor, the future of its end)"""
        self._rooms: dict[tuple[str, str], list[Room]] = {}
        self._away: dict[tuple[str, str, int], str] = {}
        """workers that run elsewhere than on the node reserved for them, which is gone"""
        self._starting = threading.Lock()
        self._over = threading.Event()
        self._lost: str | None = None
        self.fleet: Fleet

    def __enter__(self) -> "RayCluster":
        began = time.monotonic()
        self._ray = ray = prepared_ray(own=self._own)
        start_alone(ray) if self._own else join(ray, str(self._options.address))
        ip = self._options.node_ip or (LOOPBACK if self._own else ray.util.get_node_ip_address())
        try:
            self.fleet = Fleet(ip, self._note, self._options.compress)
        except OSError as error:
            ray.shutdown()
            raise ConfigError(f"nobody can listen on {ip} here ({error.strerror}); give another --node-ip") from error
        context = ray.get_runtime_context()
        self._head = context.gcs_address
        self._watchers = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._watch, "cluster watch"), (self._watch_head, "cluster head"))
        ]
        for watcher in self._watchers:
            watcher.start()
        what = "started for this run" if self._own else f"at {self._head}"
        nodes = len(self._alive())
        self._note(f"cluster {what}: {nodes} node{'s' * (nodes > 1)}, ready in {time.monotonic() - began:.1f} s")
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self.fleet.close()
        for watcher in self._watchers:
            watcher.join(WORD_S)
        if self._lost is None:
            ends = [end for _, end in self._agents.values()]
            in_time(WORD_S, lambda: self._ray.wait(ends, num_returns=len(ends), timeout=WORD_S) if ends else None)
        in_time(2 * WORD_S, self._ray.shutdown)
        atexit.unregister(self._ray.shutdown)  # it would wait for a head that is gone

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """See `places.Cluster`. Raises ConfigError that says what is missing, ClusterLost."""
        self._ask(lambda: self._reserve(path, role, first, count))

    def _reserve(self, path: str, role: str, first: int, count: int) -> None:
        from ray.util.placement_group import placement_group

        wanted, what = [self._bundle(role)] * count, f"{count} {role}{'s' * (count > 1)}"
        patience = NOWHERE_S if any(node.lost for node in self.fleet.nodes.values()) else 0.0
        short, until = missing(wanted, self._alive(), what), time.monotonic() + patience
        while short and time.monotonic() < until:  # Ray may bring another node for one that is gone
            time.sleep(LOOK_S)
            short = missing(wanted, self._alive(), what)
        if short:
            raise ConfigError(short)
        group = placement_group(wanted, strategy="SPREAD" if role in ON_MANY_NODES else "PACK")
        seconds = max(ROOM_S, patience)
        if not group.wait(seconds):
            taken = missing(wanted, self._alive(), what, self._ray.available_resources())
            raise ConfigError(taken or f"Ray found no room for {count} workers of role {role} within {seconds:g} s")
        self._rooms.setdefault((path, role), []).append(Room(first, count, group))
        self._start_agents(sorted({self._home(group, i) for i in range(count)} - {""}))

    def node_for(self, path: str, role: str, index: int) -> Node:
        """See `places.Cluster`. Raises ClusterLost where there is no node any more."""
        room = next(r for r in self._rooms[path, role] if r.first <= index < r.first + r.count)
        began = time.monotonic()
        while True:
            if self._lost is not None:
                raise ClusterLost(self._lost)
            home, node = self._ask(lambda: self._find(room, index))
            if node is not None:
                self._away.pop((path, role, index), None)
                return node
            waited = time.monotonic() - began
            if waited > HOME_S and self.fleet.live:
                self._away[path, role, index] = home
                return min(self.fleet.live, key=lambda n: len(n.children))
            if waited > NOWHERE_S:
                raise ClusterLost("no node of the cluster is left; start nodes and resume the run")
            time.sleep(LOOK_S / 2)

    def _find(self, room: Room, index: int) -> tuple[str, Node | None]:
        """(id of the node on which a worker has room, or nothing; the node, if it is there)."""
        home = self._home(room.group, index - room.first)
        return home, self._node(home)

    def _ask(self, fn: Callable[[], Any]) -> Any:
        """What fn gives, which asks Ray. Raises ClusterLost where the head is gone: Ray itself would wait for it."""
        outcome: list[tuple[Any, Exception | None]] = []

        def call() -> None:
            try:
                outcome.append((fn(), None))
            except Exception as error:  # noqa: BLE001 raised below
                outcome.append((None, error))

        asking = threading.Thread(target=call, name="cluster word", daemon=True)
        asking.start()
        while asking.is_alive():
            asking.join(LOOK_S)
            if self._lost is not None:
                raise ClusterLost(self._lost)
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def holders(self) -> list[Node]:
        """See `places.Cluster`: all nodes of the cluster but those that offer no processor."""
        self._ask(lambda: self._start_agents([n["NodeID"] for n in self._alive() if n["Resources"].get("CPU")]))
        return require_nodes(self.fleet)

    def release(self) -> None:
        """Give back what was reserved: a run is over."""
        from ray.util.placement_group import remove_placement_group

        rooms = [room for rooms in self._rooms.values() for room in rooms]
        self._rooms.clear()
        self._away.clear()
        if self._lost is None:
            in_time(WORD_S, lambda: [remove_placement_group(room.group) for room in rooms])

    def _bundle(self, role: str) -> dict[str, float]:
        if self._own:
            return {SEAT: 1.0}
        bundle = {"CPU": self._options.actor_cpus}
        if role in ON_ACCELERATORS:
            bundle["CPU"] = max(1.0, bundle["CPU"])
            if any(node["Resources"].get("GPU") for node in self._alive()):
                bundle["GPU"] = 1.0
        return bundle

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _home(self, group: Any, bundle: int) -> str:
        """Id of the node that has the room of a bundle; nothing while there is none."""
        from ray.util.placement_group import placement_group_table

        try:
            return placement_group_table(group)["bundles_to_node_id"].get(bundle) or ""
        except Exception:  # noqa: BLE001 the head is out of reach, which the watcher sees to
            return ""

    def _node(self, node_id: str) -> Node | None:
        """The node with that id, with an agent on it; None where there is none any more."""
        if not node_id:
            return None
        node = self.fleet.nodes.get(name_of(node_id))
        if node is None:
            self._start_agents([node_id])
            node = self.fleet.nodes.get(name_of(node_id))
        return None if node is None or node.lost is not None else node

    def _start_agents(self, node_ids: list[str]) -> None:
        """Agents on nodes that have none, all at once."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with self._starting:
            alive = {node["NodeID"]: node for node in self._alive()}
            fresh = [i for i in node_ids if i in alive and name_of(i) not in self.fleet.nodes]
            started = []
            for node_id in fresh:
                address = alive[node_id]["NodeManagerAddress"]
                node = self.fleet.expect(name_of(node_id))
                strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
                actor = self._ray.remote(AgentHost).options(
                    num_cpus=0, max_restarts=0, scheduling_strategy=strategy
                ).remote()  # fmt: skip
                end = actor.run.remote(node.name, self.fleet.address, self.fleet.secret.hex(), address, sys.path)
                self._agents[node_id] = actor, end
                started.append(node)
            until = time.monotonic() + AGENTS_S
            for node in started:
                if not node.there.wait(max(0.0, until - time.monotonic())):
                    self.fleet.lose(node.name, f"started no agent within {AGENTS_S:g} s")

    def _watch(self) -> None:
        """Nodes that are gone, and those that have joined. Ray may be silent for long where its head is gone."""
        while not self._over.wait(LOOK_S):
            for node_id, (_, end) in list(self._agents.items()):
                node = self.fleet.nodes[name_of(node_id)]
                if node.lost is None and not node.connected:
                    self._look_at(node, node_id, end)
            with contextlib.suppress(Exception):
                self._bring_home()

    def _look_at(self, node: Node, node_id: str, end: Any) -> None:
        """Whether a node that says nothing is gone, or just out of reach for a while."""
        if refuses(node.shelf):
            self.fleet.lose(node.name, "is gone: its agent has ended")
            return
        with contextlib.suppress(Exception):
            if node_id not in {alive["NodeID"] for alive in self._alive()}:
                self.fleet.lose(node.name, "is gone, as the cluster's head says")
                return
            ended, _ = self._ray.wait([end], timeout=0)
            if ended:
                self._end_of(node, end)

    def _end_of(self, node: Node, end: Any) -> None:
        """What Ray says of an agent's end; that it cannot reach it either ("unavailable") is no proof of one."""
        try:
            self._ray.get(end)
            self.fleet.lose(node.name, "has ended its agent")
        except self._ray.exceptions.ActorUnavailableError:
            return
        except Exception as error:  # noqa: BLE001 that is how Ray tells
            self.fleet.lose(node.name, f"is gone ({explained(error)})")

    def _watch_head(self) -> None:
        answered = time.monotonic()
        while not self._over.wait(LOOK_S):
            if self._head_answers():
                answered = time.monotonic()
            elif time.monotonic() - answered > HEAD_GONE_S:
                self._lose_head()
                return

    def _head_answers(self) -> bool:
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), 2.0).close()
        except OSError:
            return False
        return True

    def _lose_head(self) -> None:
        self._lost = (
            f"the cluster's head at {self._head} is gone; start a cluster again and `shoal resume` the run, which goes "
            "on from its last checkpoint"
        )
        self._note(self._lost)
        for node in self.fleet.live:
            self.fleet.lose(node.name, "is part of a cluster without a head")

    def _bring_home(self) -> None:
        """Workers that had to be started elsewhere go where Ray has found room for them since, as on a new node."""
        for (path, role, index), lost in list(self._away.items()):
            room = next(r for r in self._rooms[path, role] if r.first <= index < r.first + r.count)
            home = self._home(room.group, index - room.first)
            if home in ("", lost) or self._node(home) is None:
                continue
            for node in self.fleet.live:
                for child in list(node.children.values()):
                    if child.who == (path, role, index) and node.name != name_of(home):
                        self._note(f"{path} {role}/{index} moves from node {node.name} to {name_of(home)}")
                        child.kill()


class AgentHost:
    """The actor that an agent runs in."""

    def run(self, name: str, main: tuple[str, int], secret: str, host: str, path: list[str]) -> None:  # noqa: PLR0913
        """Until the run is over."""
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray hides accelerators from who reserves none: workers did
        from shoal.engines.cluster.agent import Agent

        Agent(name, main, bytes.fromhex(secret), host, path).run()


def name_of(node_id: str) -> str:
    """A node's name in messages."""
    return node_id[:8]
