# SPDX-License-Identifier: Apache-2.0
"""What the workers of a node say, on its way to the main process: one message for many when many have something to say.

    children --said--> gathering ==several at once==> main
                                 <==answers to them==

While main is quick, everything is sent as it comes. While `AHEAD` messages are unanswered, what is said meanwhile
gathers, and goes along with the next one: so the busier the main process and the more workers a node has, the fewer
messages it gets of each node, and nothing ever waits for a clock.
"""

import threading
from collections.abc import Callable
from typing import Any

AHEAD = 2
"""messages that may be unanswered before the next ones gather: with a single one, whoever hands something over and asks
for params at once would wait for two answers, one after the other"""
Said = tuple[dict[str, Any], bytes]


class Gathering:
    """Of one node.

    Args:
      send: (header, data) to the main process.

    Check: whatever is said arrives once and in the order in which it was said.
    """

    def __init__(self, send: Callable[[dict[str, Any], bytes], None]):
        self._send = send
        self._waiting: list[Said] = []
        self._turn, self._sending = threading.Lock(), threading.Lock()
        self._room = threading.Semaphore(AHEAD)
        self._answered = threading.Event()
        threading.Thread(target=self._go_on, name="cluster gathering", daemon=True).start()

    def say(self, header: dict[str, Any], data: bytes = b"") -> None:
        """Send this, now or with others."""
        with self._turn:
            self._waiting.append((header, data))
        if self._room.acquire(blocking=False):
            self._go()

    def answered(self) -> None:
        """Main has answered a message. Never waits: whoever receives must not wait for who sends."""
        self._room.release()
        if self._waiting:
            self._answered.set()

    def _go_on(self) -> None:
        while self._answered.wait():
            self._answered.clear()
            if self._waiting and self._room.acquire(blocking=False):
                self._go()

    def _go(self) -> None:
        """Send what waits, having room for a message."""
        while True:
            with self._sending:
                with self._turn:
                    said, self._waiting = self._waiting, []
                if said:
                    self._send(*together("messages", said))
                    return
            self._room.release()  # somebody else has sent it
            if not self._waiting or not self._room.acquire(blocking=False):
                return


def together(op: str, said: list[Said]) -> Said:
    """Several messages as one; `apart` takes it to pieces."""
    data = said[0][1] if len(said) == 1 else b"".join(data for _, data in said)
    return {"op": op, "each": [[header, len(data)] for header, data in said]}, data


def apart(header: dict[str, Any], data: bytes) -> list[Said]:
    """The messages that were sent together.

    Check: apart(*together("messages", said)) == said.
    """
    if len(header["each"]) == 1:
        return [(header["each"][0][0], data)]
    found, begin = [], 0
    for one, size in header["each"]:
        found.append((one, data[begin : begin + size]))
        begin += size
    return found
