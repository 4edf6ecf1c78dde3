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
        self._sent = self._sent_ever = 0
        """number of the last message that has gone over this connection, and over any"""
        self.received = 0
        """number of the last message that has come"""
        self.connections = 0
        self.sent_again = 0
        """messages, over later connections"""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._stream is not None

    @property
    def busy(self) -> bool:
        """Whether something is being sent now, or cannot be: a sign of life then need not, or might wait for long."""
        stream = self._stream
        return self._turn.locked() or (stream is not None and not stream.has_room())

    @property
    def kept(self) -> int:
        """Messages that the other side is not known to have."""
        return len(self._kept)

    def send(self, header: dict[str, Any], data: Any = b"") -> None:
        """Send a message, now or once there is a connection."""
        with self._turn:
            self._number += 1
            self._kept.append((self._number, header, data))
            self._forget_confirmed()
            self._send_kept()

    def attach(self, stream: Stream, received: int) -> None:
        """Go on over this connection with a side that has received so many messages.

        What is to be sent again is sent beside, since both sides may have more of it than a connection holds: who sent
        it here before receiving would wait for the other one for ever.
        """
        with self._turn:
            self._confirmed = max(self._confirmed, received)
            self._sent = self._confirmed
            self._forget_confirmed()
            self._stream = stream
            self.connections += 1
        if self._kept:
            threading.Thread(target=self._catch_up, name="cluster again", daemon=True).start()

    def detach(self, stream: Stream) -> None:
        """This connection is gone."""
        stream.cut()  # who is sending over it holds the turn
        with self._turn:
            if self._stream is stream:
                self._stream = None

    def cut(self) -> None:
        """End the connection, if there is one."""
        stream = self._stream
        if stream is not None:
            stream.cut()

    def accept(self, frame: Frame) -> bool:
        """Whether a message that has come is a new one. Raises Cut when one before it is missing."""
        self._confirmed = max(self._confirmed, frame.header["got"])
        number = frame.header["n"]
        if number <= self.received:
            return False
        if number > self.received + 1:
            raise Cut(f"message {number:,} came after {self.received:,}")
        self.received = number
        return True

    def _catch_up(self) -> None:
        with self._turn:
            self._send_kept()

    def _send_kept(self) -> None:
        """Whatever has not gone over this connection yet, in order."""
        stream = self._stream
        while stream is not None and self._sent < self._number:
            number, header, data = self._kept[self._sent - self._number]
            self.sent_again += number <= self._sent_ever
            self._sent_ever = max(self._sent_ever, number)
            try:
                stream.send({**header, "n": number, "got": self.received}, data)
            except Cut:
                stream.cut()  # whoever receives from it sees to the next one
                self._stream = None
                return
            self._sent = number

    def _forget_confirmed(self) -> None:
        while self._kept and self._kept[0][0] <= self._confirmed:
            self._kept.popleft()
        self._sent = max(self._sent, self._confirmed)
