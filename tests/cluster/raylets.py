# SPDX-License-Identifier: Apache-2.0
"""Ray clusters on this machine for tests: a raylet for every node, each at an address of its own."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
START_S = 60.0
HEAD = "127.0.0.2"
SMALLEST = 80 * 2**20
"""bytes of an object store, of which nothing of ours makes use"""


class Raylets:
    """A head and further nodes, on loopback addresses or, with `within`, in network namespaces.

    Args:
      folder: for Ray's own files; its path must be short.
      within: by host, the words before a command that run it there.
    """

    def __init__(self, folder: Path, hosts=(HEAD, "127.0.0.3"), cpus: int = 8, within=lambda host: []):
        self.folder, self.cpus, self._within = folder, cpus, within
        self.hosts = hosts
        self.env = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_BACKEND_LOG_LEVEL": "error",
        }
        self.address = f"{hosts[0]}:{free_port(hosts[0]) if not within(hosts[0]) else 6391}"
        self.nodes: dict[str, subprocess.Popen] = {}
        self.start_head()
        for host in hosts[1:]:
            self.start_node(host)

    def start_head(self) -> None:
        """The head, which has no room for workers unless it is alone."""
        port = self.address.rpartition(":")[2]
        self._start(self.hosts[0], ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"])
        wait_until(lambda: self._answers(), START_S, "no head")

    def start_node(self, host: str) -> None:
        """A further node."""
        self._start(host, [f"--address={self.address}"])

    def _start(self, host: str, words: list[str]) -> None:
        folder = [f"--temp-dir={self.folder}"] if "--head" in words else []
        command = [
            *self._within(host), str(BIN / "ray"), "start", *words, f"--node-ip-address={host}",
            f"--num-cpus={self.cpus}", f"--object-store-memory={SMALLEST}", "--block", *folder,
        ]  # fmt: skip
        with open(self.folder / f"{host}.log", "ab") as log:
            self.nodes[host] = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=log, start_new_session=True, stdin=subprocess.DEVNULL
            )

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        probe = f"import socket; socket.create_connection(({host!r}, {port}), 1)"
        return subprocess.run([*self._within(host), sys.executable, "-c", probe], capture_output=True).returncode == 0

    def kill_raylet(self, host: str) -> None:
        """The node's own process, as a crash would end it."""
        for process in self.of(host, "raylet"):
            process.kill()

    def kill_head(self) -> None:
        """What knows of all nodes."""
        for process in self.of(self.hosts[0], "gcs_server"):
            process.kill()

    def of(self, host: str, name: str) -> list[psutil.Process]:
        """Processes of that name that belong to a node."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.nodes[host].pid)
            return [p for p in root.children(recursive=True) if Path((p.cmdline() or [""])[0]).name == name]
        return []

    def run(self, words: list[str], seconds: float, **env: str) -> subprocess.CompletedProcess:
        """A command on the head's machine, with the token."""
        return subprocess.run(
            [*self._within(self.hosts[0]), *words], env=self.env | env, capture_output=True, text=True, timeout=seconds
        )

    def begin(self, words: list[str]) -> subprocess.Popen:
        """As `run`, without waiting."""
        return subprocess.Popen(
            [*self._within(self.hosts[0]), *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def close(self) -> None:
        """End what was started here, and nothing else."""
        for node in reversed(self.nodes.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                family = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
                node.terminate()
                psutil.wait_procs(family, 8)
                for process in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()


def free_port(host: str) -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return listener.getsockname()[1]


def wait_until(true, seconds: float, what: str) -> None:
    """Until that is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"{what} within {seconds:g} s"
        time.sleep(0.1)
