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
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal.errors import ShoalError

HEAD = struct.Struct("!IQ")
"""bytes of the header, bytes of the data"""
LONGEST_HEADER = 64 * 2**20
NONCE = 32
HELLO_S = 10.0
"""seconds for the first words of a connection"""
STUCK_S = 20.0
"""seconds in which the other side takes not one byte, after which a connection is taken for dead"""
TIME = struct.Struct("ll")
AGAIN_S = 0.1
"""seconds that a listener out of files waits for some"""
_encode = json.JSONEncoder(separators=(",", ":"), default=operator.index).encode


class Cut(Exception):
    """The connection is gone."""


class Absent(Cut):
    """The other machine answers, and says that nobody listens there."""


class Refused(ShoalError):
    """The other side does not know the secret."""

    exit_code = 1


class Frame(NamedTuple):
    """What `Stream.receive` returns."""

    header: dict[str, Any]
    data: bytes


class Stream:
    """One connection. Any thread may send or cut it, one receives and closes."""

    def __init__(self, end: socket.socket):
        self._socket = end
        self._turn = threading.Lock()
        self._limit(socket.SO_SNDTIMEO, STUCK_S)

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

    def expect_within(self, seconds: float) -> None:
        """From now on, whoever receives is woken with Cut when nothing comes for so long."""
        self._limit(socket.SO_RCVTIMEO, seconds)

    def ready(self, seconds: float) -> bool:
        """Whether something, or the end, comes within so many seconds."""
        return self._poll(select.POLLIN, seconds)

    def has_room(self) -> bool:
        """Whether a small message can be sent without waiting."""
        return self._poll(select.POLLOUT, 0.0)

    def cut(self) -> None:
        """End it for both sides; who waits here is woken with Cut."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and give its descriptor back: not while another thread receives, which might then read of a
        connection that has got the same descriptor."""
        self.cut()
        self._socket.close()

    def _poll(self, what: int, seconds: float) -> bool:
        poll = select.poll()
        try:
            poll.register(self._socket, what)
        except ValueError:  # closed: whoever tries will be told
            return True
        return bool(poll.poll(seconds * 1000))

    def _limit(self, which: int, seconds: float) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, which, TIME.pack(int(seconds), int(seconds % 1 * 1e6)))

    def _exactly(self, size: int) -> bytes:
        memory = bytearray(size)
        if size:
            self.receive_data(memory)
        return bytes(memory)


def dial(address: tuple[str, int], secret: bytes) -> Stream:
    """A connection to a listener. Raises Cut where nobody answers, Absent where nobody is, Refused where the secrets
    differ."""
    where = f"{address[0]}:{address[1]}"
    try:
        end = socket.create_connection((address[0], address[1]), HELLO_S)
    except ConnectionRefusedError as error:
        raise Absent(f"nobody listens at {where}") from error
    except OSError as error:
        raise Cut(f"{where} does not answer: {error}") from error
    try:
        _introduce(end, secret, where)
        return Stream(end)
    except (OSError, Cut) as error:
        end.close()
        raise Cut(f"{where} does not answer: {error}") from error
    except Refused:
        end.close()
        raise


def _introduce(end: socket.socket, secret: bytes, where: str) -> None:
    _prepare(end)
    nonce = _read(end, NONCE)
    own = secrets.token_bytes(NONCE)
    end.sendall(own + _proof(secret, b"dials", nonce, own))
    answer = _read(end, NONCE)
    if not hmac.compare_digest(answer, _proof(secret, b"listens", nonce, own)):
        raise Refused(f"{where} does not know this run's secret; it belongs to another run")
    end.settimeout(None)


class Listener:
    """Accepts connections of those who know the secret and hands each to `greet(stream)`, on a thread of its own."""

    def __init__(self, host: str, secret: bytes, greet: Callable[[Stream], None], name: str):
        self._secret, self._greet, self._name = secret, greet, name
        self._streams: set[Stream] = set()
        self._closed = False
        self._socket = socket.create_server((host, 0), backlog=128)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        threading.Thread(target=self._accept, name=f"{name} door", daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more, and end what was accepted."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for stream in list(self._streams):
            stream.cut()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._socket.accept()
            except OSError:
                if self._closed:
                    return
                time.sleep(AGAIN_S)  # out of files, or the caller has hung up already: others will call
                continue
            threading.Thread(target=self._attend, args=(end,), name=self._name, daemon=True).start()

    def _attend(self, end: socket.socket) -> None:
        try:
            self._prove(end)
            stream = Stream(end)
        except (OSError, Cut):
            end.close()
            return
        self._streams.add(stream)
        try:
            if not self._closed:
                self._greet(stream)
        except Cut:
            pass
        finally:
            self._streams.discard(stream)
            stream.close()

    def _prove(self, end: socket.socket) -> None:
        end.settimeout(HELLO_S)
        _prepare(end)
        nonce = secrets.token_bytes(NONCE)
        end.sendall(nonce)
        said = _read(end, 2 * NONCE)
        own, proof = said[:NONCE], said[NONCE:]
        if not hmac.compare_digest(proof, _proof(self._secret, b"dials", nonce, own)):
            raise Cut("a stranger")
        end.sendall(_proof(self._secret, b"listens", nonce, own))
        end.settimeout(None)


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
