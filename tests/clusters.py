# SPDX-License-Identifier: Apache-2.0
"""A cluster without Ray: nodes on this machine, each an agent in a process of its own, for tests of what nodes do."""

import atexit
import json
import subprocess
import sys

from shoal.engines.cluster.agent import SILENCE_S
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
from shoal.engines.cluster import agent
agent.SILENCE_S = facts["silence_s"]
main = tuple(facts["main"])
agent = agent.Agent(facts["name"], main, bytes.fromhex(facts["secret"]), facts["host"], facts["path"])
print(json.dumps(agent._shelf.address), flush=True)
agent._shelf.address = tuple(json.loads(sys.stdin.readline()))
agent.run()
"""


def directly(who, address):
    """The way to a listener when nothing is in between."""
    return address


class LocalCluster(Even):
    """So many nodes.

    Args:
      via: (who listens there, address) -> the address under which others reach it. Who is "main", where agents dial,
        "shelf main", or "shelf" and a node's name.
      silence_s: for which agents bear the main process's silence.
    """

    def __init__(self, nodes: int = 2, via=directly, silence_s: float = SILENCE_S, **settings):
        self._silence_s = silence_s
        self.notes: list[str] = []
        super().__init__(Fleet(LOOPBACK, self.notes.append, **settings))
        self._via = via
        self._main = via("main", self.fleet.address)
        self.fleet.shelf.address = via("shelf main", self.fleet.shelf.address)
        self.agents: dict[str, subprocess.Popen] = {}
        for number in range(nodes):
            self.add(f"node{number}")

    def add(self, name: str) -> None:
        """One more node."""
        node, host = self.fleet.expect(name), HOSTS[len(self.agents) % len(HOSTS)]
        facts = {
            "name": name, "main": self._main, "secret": self.fleet.secret.hex(), "host": host, "path": sys.path,
            "silence_s": self._silence_s,
        }  # fmt: skip
        agent = self.agents[name] = subprocess.Popen(
            [sys.executable, "-c", AGENT, json.dumps(facts)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with agent.stdin, agent.stdout:
            shelf = self._via(f"shelf {name}", tuple(json.loads(agent.stdout.readline())))
            agent.stdin.write(json.dumps(shelf).encode() + b"\n")
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
                agent.wait(60)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


_shared: list[LocalCluster] = []


def two_nodes() -> LocalCluster:
    """A cluster that the tests of a file share."""
    if not _shared:
        _shared.append(LocalCluster(2))
    return _shared[0]


@atexit.register
def end_shared() -> None:
    """Its end."""
    while _shared:
        _shared.pop().close()
