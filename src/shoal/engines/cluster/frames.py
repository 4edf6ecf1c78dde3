# SPDX-License-Identifier: Apache-2.0
"""Messages over TCP between processes that hold the run's secret: a header (JSON) and bytes, never pickle.

A connection begins with both sides proving that they know the secret, without sending it. What follows is neither
encrypted nor signed: who can change packets between the nodes can change a run, so clusters live on networks that are
trusted as Ray's own are.
"""

import contextlib
import hashlib
import hmac
import json
import operator
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal.errors import ShoalError

HEAD = struct.Struct("!IQ")
"""bytes of the header, bytes of the data"""
LONGEST_HEADER = 64 * 2**20
NONCE = 32
HELLO_S = 10.0
"""seconds for the first words of a connection"""
_encode = json.JSONEncoder(separators=(",", ":"), default=operator.index).encode


class Cut(Exception):
    """The connection is gone."""


class Refused(ShoalError):
    """The other side does not know the secret."""

    exit_code = 1


class Frame(NamedTuple):
    """What `Stream.receive` returns."""

    header: dict[str, Any]
    data: bytes


class Stream:
    """One connection. Any thread may send, one receives."""

    def __init__(self, end: socket.socket):
        self._socket = end
        self._turn = threading.Lock()

    def send(self, header: dict[str, Any], data: Any = b"") -> None:
        """Send one message. Raises Cut."""
        text = _encode(header).encode()
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        try:
            with self._turn:
                if size <= 2**16:
                    self._socket.sendall(HEAD.pack(len(text), size) + text + bytes(data))
                else:  # what is large is not copied once more
                    self._socket.sendall(HEAD.pack(len(text), size) + text)
                    self._socket.sendall(data)
        except OSError as error:
            raise Cut(str(error)) from error

    def receive(self) -> Frame:
        """The next message; waits for it. Raises Cut."""
        header, size = self.receive_head()
        return Frame(header, self._exactly(size))

    def receive_head(self) -> tuple[dict[str, Any], int]:
        """Header and bytes of the data of the next message, to be read with `receive_data`."""
        text_size, size = HEAD.unpack(self._exactly(HEAD.size))
        if text_size > LONGEST_HEADER:
            self.close()
            raise Cut(f"a header of {text_size:,} bytes is none of ours")
        return json.loads(self._exactly(text_size)), size

    def receive_data(self, memory: Any) -> None:
        """Read data of as many bytes as the memory has."""
        view = memoryview(memory).cast("B")
        at = 0
        try:
            while at < len(view):
                got = self._socket.recv_into(view[at:])
                if not got:
                    raise Cut("the other side has closed it")
                at += got
        except OSError as error:
            raise Cut(str(error)) from error

    def close(self) -> None:
        """End it for both sides; who waits here is woken with Cut."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        memory = bytearray(size)
        if size:
            self.receive_data(memory)
        return bytes(memory)


def dial(address: tuple[str, int], secret: bytes, seconds: float = HELLO_S) -> Stream:
    """A connection to a listener. Raises Cut where nobody answers, Refused where the secrets differ."""
    try:
        end = socket.create_connection((address[0], address[1]), seconds)
        _prepare(end)
        nonce = _read(end, NONCE)
        own = secrets.token_bytes(NONCE)
        end.sendall(own + _proof(secret, b"dials", nonce, own))
        answer = _read(end, NONCE)
    except (OSError, Cut) as error:
        raise Cut(f"{address[0]}:{address[1]} does not answer: {error}") from error
    if not hmac.compare_digest(answer, _proof(secret, b"listens", nonce, own)):
        end.close()
        raise Refused(f"{address[0]}:{address[1]} does not know this run's secret; it belongs to another run")
    end.settimeout(None)
    return Stream(end)


class Listener:
    """Accepts connections of those who know the secret and hands each to `greet(stream)`, on a thread of its own."""

    def __init__(self, host: str, secret: bytes, greet: Callable[[Stream], None], name: str):
        self._secret, self._greet, self._name = secret, greet, name
        self._streams: set[Stream] = set()
        self._socket = socket.create_server((host, 0), backlog=128)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        threading.Thread(target=self._accept, name=f"{name} door", daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more, and end what was accepted."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for stream in list(self._streams):
            stream.close()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(end,), name=self._name, daemon=True).start()

    def _attend(self, end: socket.socket) -> None:
        try:
            end.settimeout(HELLO_S)
            _prepare(end)
            nonce = secrets.token_bytes(NONCE)
            end.sendall(nonce)
            said = _read(end, 2 * NONCE)
            own, proof = said[:NONCE], said[NONCE:]
            if not hmac.compare_digest(proof, _proof(self._secret, b"dials", nonce, own)):
                end.close()
                return
            end.sendall(_proof(self._secret, b"listens", nonce, own))
            end.settimeout(None)
        except (OSError, Cut):
            end.close()
            return
        stream = Stream(end)
        self._streams.add(stream)
        try:
            self._greet(stream)
        except Cut:
            pass
        finally:
            self._streams.discard(stream)
            stream.close()


def _prepare(end: socket.socket) -> None:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _proof(secret: bytes, who: bytes, nonce: bytes, own: bytes) -> bytes:
    return hmac.digest(secret, who + nonce + own, hashlib.sha256)


def _read(end: socket.socket, size: int) -> bytes:
    memory = b""
    while len(memory) < size:
        more = end.recv(size - len(memory))
        if not more:
            raise Cut("the other side has closed it")
        memory += more
    return memory
