# SPDX-License-Identifier: Apache-2.0
"""Messages between two processes: whole or not at all, whoever is killed when.

A message is a header (JSON) and bytes. The sockets keep message boundaries, so a sender that dies leaves no half of
one. What is too large for a message travels as a descriptor of memory that holds it.
"""

import json
import mmap
import os
import select
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

LARGEST = 128 * 1024
"""bytes of a message; larger ones are spilled into memory"""
MOST_DESCRIPTORS = 16


class Message(NamedTuple):
    """What `receive` returns."""

    header: dict[str, Any]
    data: bytes
    descriptors: list[int]
    """open file descriptors, the receiver's to close"""


class Hangup(Exception):
    """The other end is closed: its process has ended."""


class Link:
    """One end of a connection. Not shared between threads without a lock."""

    def __init__(self, end: socket.socket):
        self._socket = end

    @staticmethod
    def pair() -> tuple["Link", "Link"]:
        """Two connected ends."""
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (a, b):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
        return Link(a), Link(b)

    def fileno(self) -> int:
        """The descriptor, to wait on or to pass on."""
        return self._socket.fileno()

    def send(self, header: dict[str, Any], data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send one message. Raises Hangup when the other end is closed."""
        text = json.dumps(header, separators=(",", ":")).encode()
        body = b"%d\n%s%s" % (len(text), text, data)
        try:
            if len(body) > LARGEST:
                self._spill(body, descriptors)
            elif descriptors:
                socket.send_fds(self._socket, [body], list(descriptors))
            else:
                self._socket.send(body)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Hangup(str(error)) from error

    def receive(self) -> Message:
        """The next message; waits for it. Raises Hangup when the other end is closed and all was read."""
        try:
            body, descriptors, _, _ = socket.recv_fds(self._socket, LARGEST + 64, MOST_DESCRIPTORS)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Hangup(str(error)) from error
        if not body:
            raise Hangup("end of messages")
        if body.startswith(b"spilled\n"):
            body = _read_spilled(descriptors.pop(0), int(body[8:]))
        length, _, rest = body.partition(b"\n")
        cut = int(length)
        return Message(json.loads(rest[:cut]), rest[cut:], list(descriptors))

    def ready(self, seconds: float) -> bool:
        """Whether a message, or the end of them, is there within so many seconds."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def shutdown(self) -> None:
        """End the connection for both sides; whoever waits here is woken with Hangup."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end; the other one reads what was sent, then Hangup."""
        self._socket.close()

    def _spill(self, body: bytes, descriptors: Sequence[int]) -> None:
        memory = os.memfd_create("shoal message", os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(body)
            socket.send_fds(self._socket, [b"spilled\n%d" % len(body)], [memory, *descriptors])
        finally:
            os.close(memory)


def _read_spilled(memory: int, size: int) -> bytes:
    try:
        with mmap.mmap(memory, size, prot=mmap.PROT_READ) as view:
            return view[:]
    finally:
        os.close(memory)
