# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster: joined or started, asked for room, watched.

Ray says which nodes there are, keeps room on them (placement groups), starts one agent on every node that gets workers,
and says when a node is gone. What workers say to one another goes over sockets of the run's own (`fleet`, `shelf`), so
that small messages take no turn in Ray's scheduler and no array is pickled.
"""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal.engines.cluster.fleet import Fleet, Node, require_nodes
from shoal.engines.cluster.options import ClusterOptions, require_ray
from shoal.engines.cluster.ray_faults import ClusterLost, explained, missing
from shoal.errors import ConfigError

JOIN_S = 10.0
"""seconds to reach a cluster"""
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
LOOPBACK = "127.0.0.1"
ON_ACCELERATORS = ("learner", "inference")
"""roles that compute in batches"""
SEAT = "shoal_worker"
"""what workers reserve of a cluster that was started for the run"""


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
        self._start() if self._own else self._join()
        ip = self._options.node_ip or (LOOPBACK if self._own else ray.util.get_node_ip_address())
        try:
            self.fleet = Fleet(ip, self._note, self._options.compress)
        except OSError as error:
            ray.shutdown()
            raise ConfigError(f"nobody can listen on {ip} here ({error.strerror}); give another --node-ip") from error
        context = ray.get_runtime_context()
        self._head = context.gcs_address
        self._watcher = threading.Thread(target=self._watch, name="cluster cluster", daemon=True)
        self._watcher.start()
        what = "started for this run" if self._own else f"at {self._head}"
        nodes = len(self._alive())
        self._note(f"cluster {what}: {nodes} node{'s' * (nodes > 1)}, ready in {time.monotonic() - began:.1f} s")
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._watcher.join()
        self.fleet.close()
        ends = [end for _, end in self._agents.values()]
        with contextlib.suppress(Exception):
            if self._lost is None and ends:
                self._ray.wait(ends, num_returns=len(ends), timeout=5)
        with contextlib.suppress(Exception):
            self._ray.shutdown()

    def reserve(self, path: str, role: str, first: int, count: int) -> None:
        """See `places.Cluster`. Raises ConfigError that says what is missing."""
        from ray.util.placement_group import placement_group

        wanted = [self._bundle(role)] * count
        short = missing(wanted, self._alive(), f"{count} {role}{'s' * (count > 1)}")
        if short:
            raise ConfigError(short)
        host, port = self.fleet.address  # Ray refuses a name that another run, or this one, has given already
        group = placement_group(wanted, strategy="PACK", name=f"shoal {path} {role}/{first} of {host}:{port}")
        if not group.wait(ROOM_S):
            taken = missing(
                wanted, self._alive(), f"{count} {role}{'s' * (count > 1)}", self._ray.available_resources()
            )
            raise ConfigError(taken or f"Ray found no room for {count} workers of role {role} within {ROOM_S:g} s")
        self._rooms.setdefault((path, role), []).append(Room(first, count, group))
        self._start_agents(sorted({self._home(group, i) for i in range(count)} - {""}))

    def node_for(self, path: str, role: str, index: int) -> Node:
        """See `places.Cluster`. Raises ClusterLost where there is no node any more."""
        room = next(r for r in self._rooms[path, role] if r.first <= index < r.first + r.count)
        began = time.monotonic()
        while True:
            if self._lost is not None:
                raise ClusterLost(self._lost)
            home = self._home(room.group, index - room.first)
            node = self._node(home)
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

    def holders(self) -> list[Node]:
        """See `places.Cluster`: all nodes of the cluster but those that offer no processor."""
        self._start_agents([node["NodeID"] for node in self._alive() if node["Resources"].get("CPU")])
        return require_nodes(self.fleet)

    def release(self) -> None:
        """Give back what was reserved: a run is over."""
        from ray.util.placement_group import remove_placement_group

        for rooms in self._rooms.values():
            for room in rooms:
                with contextlib.suppress(Exception):
                    remove_placement_group(room.group)
        self._rooms.clear()
        self._away.clear()

    def _start(self) -> None:
        """A cluster of this machine alone: loopback, no dashboard, a token of its own."""
        try:
            self._ray.init(
                address="local",
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                object_store_memory=80 * 2**20,  # the smallest: nothing of ours goes through it
                resources={SEAT: 1_000_000},
                log_to_driver=False,
                logging_level="error",
            )
        except Exception as error:
            raise ConfigError(f"Ray cannot start here: {explained(error)}") from error

    def _join(self) -> None:
        """A cluster that runs already."""
        address = self._options.address
        if address != "auto":
            host, _, port = str(address).rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), JOIN_S / 2).close()
            except OSError as error:
                raise ConfigError(
                    f"nobody answers at {address} ({error.strerror or error}); start a head with `ray start --head`, "
                    "or give its address"
                ) from error
        failed: list[Exception] = []

        def join() -> None:
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="error")
            except Exception as error:  # noqa: BLE001 told below
                failed.append(error)

        joining = threading.Thread(target=join, daemon=True)
        joining.start()
        joining.join(JOIN_S)
        if joining.is_alive():
            raise ConfigError(
                f"{address} is no head of a Ray cluster that answers within {JOIN_S:g} s; look at the address, and at "
                "the token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
            )
        if failed:
            raise ConfigError(f"the cluster at {address} cannot be joined: {explained(failed[0])}") from failed[0]

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
        answered = time.monotonic()
        while not self._over.wait(LOOK_S):
            for node_id, (_, end) in list(self._agents.items()):
                if self.fleet.nodes[name_of(node_id)].lost is None:
                    self._look_at(node_id, end)
            if self._head_answers():
                answered = time.monotonic()
                with contextlib.suppress(Exception):
                    self._bring_home()
            elif time.monotonic() - answered > HEAD_GONE_S:
                self._lose_head()
                return

    def _look_at(self, node_id: str, end: Any) -> None:
        """Whether a node's agent still runs."""
        with contextlib.suppress(Exception):
            ended, _ = self._ray.wait([end], timeout=0)
            if not ended:
                return
            why = "ended"
            try:
                self._ray.get(end)
            except Exception as error:  # noqa: BLE001 that is how Ray tells
                why = f"is gone ({explained(error)})"
            self.fleet.lose(name_of(node_id), why)

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


def prepared_ray(*, own: bool) -> Any:
    """The module ray, imported under the settings that it reads at import: quiet, and for a cluster of our own on the
    loopback address only, with a token."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    if own:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's way of saying: loopback only
    before = "ray" in sys.modules
    import ray

    if own and before:
        from ray import _raylet
        from ray._private import ray_constants

        _raylet.Config.initialize("")  # pyright: ignore[reportAttributeAccessIssue]
        ray_constants.ENABLE_RAY_CLUSTER = False
    return ray


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
