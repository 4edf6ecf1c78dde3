# SPDX-License-Identifier: Apache-2.0
"""Addresses for processes that meet over the network."""

import contextlib
import socket
from time import monotonic, sleep

LOOPBACK = "127.0.0.1"
LOOK_S = 0.05
"""seconds between looks for a listener"""


def free_address(host: str = LOOPBACK) -> str:
    """`host:port` of this machine, on which nobody listens yet; unless told otherwise one that it alone can reach."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return f"{host}:{listener.getsockname()[1]}"


def is_free(address: str) -> bool:
    """Whether this machine can listen at `host:port`.

    Check: where somebody listens it cannot.
    """
    with socket.socket() as listener:
        try:
            listener.bind(_pair(address))
        except OSError:
            return False
    return True


def await_listener(address: str, seconds: float) -> bool:
    """Wait until somebody listens at `host:port`; False when nobody does within so many seconds."""
    until = monotonic() + seconds
    while monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(_pair(address), timeout=seconds):
            return True
        sleep(LOOK_S)
    return False


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
