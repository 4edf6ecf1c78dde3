# SPDX-License-Identifier: Apache-2.0
"""Messages between two processes: whole or not at all, whoever is killed when.

A message is a header (JSON) and bytes. The sockets keep message boundaries, so a sender that dies leaves no half of
one. What is too large for a message travels as a descriptor of memory that holds it.
"""

import errno
import json
import mmap
import operator
import os
import select
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from shoal.processes.limits import out_of_files

LARGEST = 128 * 1024
"""bytes of a message; larger ones are spilled into memory"""
MOST_DESCRIPTORS = 16
"""that go with one message"""
_encode = json.JSONEncoder(separators=(",", ":"), default=operator.index).encode


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
        if len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors with one message: at most {MOST_DESCRIPTORS}")
        text = _encode(header).encode()
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
        """The next message; waits for it.

        Raises Hangup when the other end is closed and all was read, ConfigError when this process may not open the
        files that came with a message.
        """
        try:
            body, descriptors, flags, _ = socket.recv_fds(self._socket, LARGEST + 64, MOST_DESCRIPTORS + 1)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Hangup(str(error)) from error
        if not body:
            raise Hangup("end of messages")
        if flags & socket.MSG_CTRUNC:
            for descriptor in descriptors:
                os.close(descriptor)
            raise out_of_files(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
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
        try:
            memory = os.memfd_create("shoal message", os.MFD_CLOEXEC)
        except OSError as error:
            raise out_of_files(error) from error
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
