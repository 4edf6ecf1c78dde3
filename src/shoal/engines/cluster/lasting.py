# SPDX-License-Identifier: Apache-2.0
"""A conversation that outlives its connections: nothing is lost, nothing comes twice or out of order.

Every message has a number, and says up to which number its sender has received. What the other side has not confirmed
is kept, and sent again over the next connection; what has come already is thrown away.
"""

import threading
from collections import deque
from typing import Any

from shoal.engines.cluster.frames import Cut, Frame, Stream


class Lasting:
    """One side's view. One thread receives at a time, any may send.

    Check: however connections break, both sides receive what the other has sent, in order, once.
    """

    def __init__(self):
        self._turn = threading.Lock()
        self._stream: Stream | None = None
        self._kept: deque[tuple[int, dict[str, Any], Any]] = deque()
        self._number = self._confirmed = 0
        self.received = 0
        """number of the last message that has come"""
        self.connections = 0
        self.sent_again = 0
        """messages, over later connections"""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._stream is not None

    def send(self, header: dict[str, Any], data: Any = b"") -> None:
        """Send a message, now or once there is a connection."""
        with self._turn:
            self._number += 1
            self._kept.append((self._number, header, data))
            self._forget_confirmed()
            if self._stream is not None:
                self._send(self._number, header, data)

    def attach(self, stream: Stream, received: int) -> None:
        """Go on over this connection with a side that has received so many messages."""
        with self._turn:
            self._stream, self._confirmed = stream, max(self._confirmed, received)
            self._forget_confirmed()
            self.connections += 1
            for kept in list(self._kept):
                self.sent_again += self.connections > 1
                self._send(*kept)

    def detach(self, stream: Stream) -> None:
        """This connection is gone."""
        with self._turn:
            if self._stream is stream:
                self._stream = None

    def cut(self) -> None:
        """End the connection, if there is one: the other side has been silent for too long."""
        stream = self._stream
        if stream is not None:
            stream.close()

    def accept(self, frame: Frame) -> bool:
        """Whether a message that has come is a new one."""
        self._confirmed = max(self._confirmed, frame.header["got"])
        if frame.header["n"] <= self.received:
            return False
        self.received = frame.header["n"]
        return True

    def _send(self, number: int, header: dict[str, Any], data: Any) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            stream.send({**header, "n": number, "got": self.received}, data)
        except Cut:
            self._stream = None  # whoever receives from it sees to the next one

    def _forget_confirmed(self) -> None:
        while self._kept and self._kept[0][0] <= self._confirmed:
            self._kept.popleft()
