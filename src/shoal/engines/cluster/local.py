# SPDX-License-Identifier: Apache-2.0
"""Nodes of this machine, each an agent in a plain process: what passes between nodes can be measured without Ray, which
hands over none of it.
"""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from shoal.engines.cluster.fleet import Fleet
from shoal.engines.cluster.places import Even

START_S = 60.0
"""seconds for an agent to dial"""
END_S = 10.0
"""seconds for one to end"""
LOOPBACK = "127.0.0.1"
AGENT = """
import json, sys
facts = json.loads(sys.stdin.readline())
sys.path[:] = facts["path"]
from shoal.engines.cluster.agent import Agent
Agent(facts["name"], tuple(facts["main"]), bytes.fromhex(facts["secret"]), facts["host"], facts["path"]).run()
"""


class LocalNodes(Even):
    """So many agents on the loopback address, until the end of a `with`."""

    def __init__(self, nodes: int = 1):
        super().__init__(Fleet(LOOPBACK))
        self.agents: list[subprocess.Popen] = []
        for number in range(nodes):
            self._start(f"node{number}")

    def _start(self, name: str) -> None:
        self.fleet.expect(name)
        agent = subprocess.Popen([sys.executable, "-c", AGENT], stdin=subprocess.PIPE, text=True)
        self.agents.append(agent)
        facts: dict[str, Any] = {
            "name": name, "main": self.fleet.address, "secret": self.fleet.secret.hex(), "host": LOOPBACK,
            "path": sys.path,
        }  # fmt: skip
        assert agent.stdin is not None
        with agent.stdin as given:
            given.write(json.dumps(facts) + "\n")

    def __enter__(self) -> "LocalNodes":
        try:
            self.fleet.await_nodes(START_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye; kill whoever does not leave."""
        self.fleet.close()
        for agent in self.agents:
            try:
                agent.wait(END_S)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
