# SPDX-License-Identifier: Apache-2.0
"""A cluster without Ray: nodes on this machine, each an agent in a process of its own, for tests of what nodes do."""

import atexit
import functools
import json
import subprocess
import sys

from shoal.engines.cluster.fleet import Fleet
from shoal.engines.cluster.places import Even

START_S = 60.0
LOOPBACK = "127.0.0.1"
HOSTS = tuple(f"127.0.0.{1 + number}" for number in range(8))
"""an address for every node, all of this machine alone"""
AGENT = """
import json, sys
facts = json.loads(sys.argv[1])
sys.path[:] = facts["path"]
from shoal.engines.cluster.agent import Agent
main = tuple(facts["main"])
Agent(facts["name"], main, bytes.fromhex(facts["secret"]), facts["host"], facts["path"]).run()
"""


class LocalCluster(Even):
    """So many nodes.

    Args:
      main: address under which nodes reach the main process, where it is not its own; (own address) -> that.
    """

    def __init__(self, nodes: int = 2, main=lambda address: address, **settings):
        self.notes: list[str] = []
        super().__init__(Fleet(LOOPBACK, self.notes.append, **settings))
        self._main = main
        self.agents: dict[str, subprocess.Popen] = {}
        for number in range(nodes):
            self.add(f"node{number}")

    def add(self, name: str) -> None:
        """One more node."""
        node, host = self.fleet.expect(name), HOSTS[len(self.agents) % len(HOSTS)]
        facts = {
            "name": name, "main": self._main(self.fleet.address), "secret": self.fleet.secret.hex(), "host": host,
            "path": sys.path,
        }  # fmt: skip
        self.agents[name] = subprocess.Popen([sys.executable, "-c", AGENT, json.dumps(facts)])
        assert node.there.wait(START_S), f"{name} did not dial"

    def lose(self, name: str) -> None:
        """A node's end: its agent is killed, and what runs there with it."""
        self.agents[name].kill()
        self.agents[name].wait()
        self.fleet.lose(name, "was killed")

    def close(self) -> None:
        """Say goodbye."""
        self.fleet.close()
        for agent in self.agents.values():
            try:
                agent.wait(10)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


@functools.cache
def two_nodes() -> LocalCluster:
    """A cluster that all tests of this process share."""
    cluster = LocalCluster(2)
    atexit.register(cluster.close)
    return cluster
