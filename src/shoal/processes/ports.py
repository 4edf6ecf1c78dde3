# SPDX-License-Identifier: Apache-2.0
"""Addresses for processes of this machine that meet over the network."""

import socket

LOOPBACK = "127.0.0.1"


def free_address() -> str:
    """`host:port` of this machine alone, on which nobody listens yet."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return f"{LOOPBACK}:{listener.getsockname()[1]}"
