# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces, each with an address of its own; the link between them can lose, delay or hold packets.

The link is a device in either namespace whose packets a thread here carries across, so what is lost is really lost: to
Ray's connections as to ours.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from pathlib import Path

FIRST, SECOND = "10.91.7.1", "10.91.7.2"
TUN, SET_NAME, NO_HEAD, IS_TUN = "/dev/net/tun", 0x400454CA, 0x1000, 0x0001
NET = 0x40000000
PACKET = 2048


def available() -> bool:
    """Whether this user may make namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not Path(TUN).exists():
        return False
    name = f"shoal-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


class Spaces:
    """Open as a context. `loss`, `delay_s` and `cut` may change at any time."""

    def __init__(self, seed: int = 0):
        self.loss, self.delay_s, self.cut = 0.0, 0.0, False
        self.carried = self.lost = 0
        self._random = random.Random(seed)
        self._names = {FIRST: f"shoal-a-{os.getpid()}", SECOND: f"shoal-b-{os.getpid()}"}
        self._over = threading.Event()

    def __enter__(self) -> "Spaces":
        self._ends = []
        for own, other in ((FIRST, SECOND), (SECOND, FIRST)):
            name = self._names[own]
            run("ip", "netns", "add", name)
            self._ends.append(device_in(name))
            inside = ["ip", "netns", "exec", name, "ip"]
            run(*inside, "addr", "add", own, "peer", other, "dev", "shoal0")
            run(*inside, "link", "set", "shoal0", "up")
            run(*inside, "link", "set", "lo", "up")
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        self._carrier.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._carrier.join()
        for end in self._ends:
            os.close(end)
        for name in self._names.values():
            run("ip", "netns", "del", name)

    def within(self, host: str) -> list[str]:
        """The words before a command that run it at this address."""
        return ["ip", "netns", "exec", self._names[host]]

    def _carry(self) -> None:
        due: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._over.is_set():
            wait = min(0.1, max(0.0, due[0][0] - time.monotonic())) if due else 0.1
            for end in select.select(self._ends, [], [], wait)[0]:
                packet = os.read(end, PACKET)
                if self.cut or self._random.random() < self.loss:
                    self.lost += 1
                    continue
                count += 1
                heapq.heappush(due, (time.monotonic() + self.delay_s, count, self._other(end), packet))
            while due and due[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(due)
                os.write(end, packet)
                self.carried += 1

    def _other(self, end: int) -> int:
        return self._ends[1 - self._ends.index(end)]


def device_in(name: str) -> int:
    """A device shoal0 in a namespace; the descriptor through which its packets pass."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert libc.setns(there, NET) == 0
        end = os.open(TUN, os.O_RDWR)
        fcntl.ioctl(end, SET_NAME, struct.pack("16sH22x", b"shoal0", IS_TUN | NO_HEAD))
    finally:
        assert libc.setns(here, NET) == 0
        os.close(here)
        os.close(there)
    return end


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
