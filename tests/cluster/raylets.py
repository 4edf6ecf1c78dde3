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


JOINED = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.1)
"""


class Raylets:
    """A head and further nodes, on loopback addresses or, with `within`, in network namespaces.

    Args:
      folder: for Ray's own files; its path must be short.
      within: by host, the words before a command that run it there.
      bins: where the `ray` to start lies.
    """

    def __init__(
        self, folder: Path, hosts=(HEAD, "127.0.0.3"), cpus: int = 8, head_cpus=None, within=lambda host: [], bins=BIN
    ):
        self.folder, self.cpus, self._within = folder, cpus, within
        self._head_cpus = cpus if head_cpus is None else head_cpus
        self.hosts, self._bin = hosts, bins
        self.env = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_BACKEND_LOG_LEVEL": "error",
        }
        self.address = f"{hosts[0]}:{free_port(hosts[0]) if not within(hosts[0]) else 6391}"
        self.nodes: dict[str, subprocess.Popen] = {}
        try:
            self.start_head()
            for count, host in enumerate(hosts[1:], 2):
                self.start_node(host, count)
        except BaseException:
            self.close()
            raise

    def start_head(self) -> None:
        """The head, which has no room for workers unless it is alone."""
        port = self.address.rpartition(":")[2]
        self._start(self.hosts[0], ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"])
        wait_until(lambda: self._answers(), START_S, "no head")

    def start_node(self, host: str, alive: int) -> None:
        """A further node, with which so many are alive. On a busy machine Ray gives up too early: once more then."""
        for _ in range(3):
            self._start(host, [f"--address={self.address}"])
            joined = [str(self._bin / "python"), "-c", JOINED, self.address, str(alive)]
            with subprocess.Popen(self.on_head(joined), env=self.env, stderr=subprocess.DEVNULL) as waiting:
                while waiting.poll() is None and self.nodes[host].poll() is None:
                    time.sleep(0.1)
                if waiting.poll() == 0:
                    return
                waiting.kill()
        raise AssertionError((self.folder / f"{host}.log").read_text()[-2000:])

    def _start(self, host: str, words: list[str]) -> None:
        is_head = "--head" in words
        folder, cpus = ([f"--temp-dir={self.folder}"], self._head_cpus) if is_head else ([], self.cpus)
        command = [
            *self._within(host), str(self._bin / "ray"), "start", *words, f"--node-ip-address={host}",
            f"--num-cpus={cpus}", f"--object-store-memory={SMALLEST}", "--block", *folder,
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

    def on_head(self, words: list[str]) -> list[str]:
        """A command, to be run on the head's machine."""
        return [*self._within(self.hosts[0]), *words]

    def run(self, words: list[str], seconds: float) -> subprocess.CompletedProcess:
        """A command on the head's machine, with the token."""
        return subprocess.run(self.on_head(words), env=self.env, capture_output=True, text=True, timeout=seconds)

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
