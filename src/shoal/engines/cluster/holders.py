# SPDX-License-Identifier: Apache-2.0
"""A shared vector that nodes hold, as somebody sees it who pulls and pushes: the same from any process of the run.

    pull    look at the first piece, copy all                               one round trip
    push    check the first piece, apply to all, count at the first piece   two, where gradients may be too old three

Requests to several nodes go out side by side. A push is counted after it was applied, and every piece says how many it
holds, so that in params of a version no number has fewer pushes. Where one node holds all, a push is one round trip.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable
from time import sleep
from typing import Any, NamedTuple

import numpy as np

from shoal.engines.cluster.frames import Cut, Stream, dial
from shoal.engines.remote.errors import decode
from shoal.engines.wires.numbers import Form
from shoal.processes import codec

AGAIN_S = 0.1
"""seconds between tries to reach a node"""


class Share(NamedTuple):
    """The numbers of a vector that a node holds."""

    address: tuple[str, int]
    """of its shard server"""
    begin: int
    end: int
    shards: int


class User(NamedTuple):
    """Who pulls and pushes."""

    lane: int
    index: int
    """in its role"""
    epoch: int
    is_owner: bool


class Outcome(NamedTuple):
    """Of a push."""

    version: int
    waited: bool
    """somebody waits for this version, or an earlier one"""
    rows: np.ndarray | None
    """[1 + rows of moments, N], what came of it, where that was asked for"""


class Holder:
    """One node: one request at a time, asked again over a new connection when one breaks.

    Args:
      check: raises when it is no use to go on trying.
    """

    def __init__(self, address: tuple[str, int], secret: bytes, check: Callable[[], None]):
        self._address, self._secret, self._check = address, secret, check
        self._stream: Stream | None = None
        self._request: tuple[dict[str, Any], Any] = {}, b""

    def send(self, header: dict[str, Any], data: Any = b"") -> None:
        """Ask."""
        self._request = header, data
        with contextlib.suppress(Cut):
            self._send()

    def receive(self, into: np.ndarray | None = None) -> tuple[dict[str, Any], bytes]:
        """The answer, its data in `into` if they are as long, in order. Raises what the node's own work raised."""
        while True:
            try:
                if self._stream is None:
                    self._send()
                return self._receive(into)
            except Cut:
                self.close()
                self._check()
                sleep(AGAIN_S)

    def close(self) -> None:
        """End the connection; who waits for an answer makes another one, if it is still of use."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _send(self) -> None:
        stream = self._stream
        if stream is None:
            stream = self._stream = dial(self._address, self._secret)
        try:
            stream.send(*self._request)
        except Cut:
            self.close()
            raise

    def _receive(self, into: np.ndarray | None) -> tuple[dict[str, Any], bytes]:
        stream = self._stream
        if stream is None:
            raise Cut("no connection")
        header, size = stream.receive_head()
        data = b""
        if into is not None and size == into.nbytes:
            stream.receive_data(into)
        elif size:
            data = bytearray(size)
            stream.receive_data(data)
        if "error" in header:
            raise decode(header["error"])
        return header, bytes(data)


class Holders:
    """All nodes that hold one vector; threads may share it.

    Args:
      vector: its number on the nodes.
      form: of the whole vector.
      check: see `Holder`.
    """

    def __init__(self, vector: int, shares: list[Share], form: Form, secret: bytes, check: Callable[[], None]):  # noqa: PLR0913
        self._vector, self._shares, self._form = vector, shares, form
        self._nodes = [Holder(share.address, secret, check) for share in shares]
        self._turn = threading.Lock()
        self._pushes = itertools.count()

    def make(self, rule: Any, rows: np.ndarray, version: int, samples: int) -> None:
        """Have the nodes hold the vector: rows [1 + rows of moments, N]."""
        requests = []
        for share in self._shares:
            part = Form(share.end - share.begin, self._form.dtype, self._form.moments, share.shards, locked=False)
            packed = codec.pack((rule, np.ascontiguousarray(rows[:, share.begin : share.end])))
            data = np.zeros(packed.nbytes, np.uint8)
            codec.write(packed, data)
            header = {"op": "make", "form": packed.form, "form_of": part.facts, "version": version, "samples": samples}
            requests.append((header, data.data))
        self._all(requests)

    def drop(self) -> None:
        """Have them forget it."""
        self._all([({"op": "drop"}, b"")] * len(self._nodes))
        self.close()

    def close(self) -> None:
        """End all connections."""
        for node in self._nodes:
            node.close()

    def look(self) -> dict[str, int]:
        """Version, samples and rejected."""
        return self._first({"op": "ask", "do": ["look"]})[0]

    def lanes(self) -> np.ndarray:
        """The counts of those who have used the vector, [lanes, 8]; see `wires.numbers`."""
        counts = self._first({"op": "ask", "do": ["lanes"]})[1]
        return np.frombuffer(counts, np.int64).reshape(-1, 8)

    def want(self, version: int, *, waits: bool = True) -> int:
        """Have those who push told that somebody waits for a version, or does so no more; returns the version now."""
        return self._first({"op": "want", "version": version, "waits": waits})[0]["version"]

    def pull(self, user: User) -> tuple[np.ndarray, int]:
        """(params [N], number of pushes in them at least)."""
        copy = {"op": "ask", "do": ["copy"], "rows": [0, 1]}
        look = {**copy, "do": ["look", "copy"], **user._asdict()}
        out = np.empty((1, self._form.size), self._form.dtype)
        answers = self._all([(look, b""), *[(copy, b"")] * (len(self._nodes) - 1)], out)
        return out[0], min(answers[0]["version"], *(answer["holds"] for answer in answers))

    def moments(self) -> np.ndarray:
        """Moments as they were given."""
        out = np.empty((self._form.rows, self._form.size), self._form.dtype)
        if self._form.rows:
            self._all([({"op": "ask", "do": ["copy"], "rows": [1, 1 + self._form.rows]}, b"")] * len(self._nodes), out)
        return self._form.as_given(out)

    def push(  # noqa: PLR0913
        self, user: User, grad: np.ndarray, version: int, rate: float, samples: int, max_lag: int | None, back: int
    ) -> Outcome:
        """Apply a gradient [N] or [m, N].

        Args:
          back: so many rows of what came of it are wanted; 0 for none.
        """
        fields = {"op": "ask", **user._asdict(), "version": version, "rate": rate, "samples": samples, "back": back,
                  "nbytes": grad.nbytes, "max_lag": max_lag, "dtype": grad.dtype.str}  # fmt: skip
        check = [] if max_lag is None else ["check"]
        out = np.empty((back, self._form.size), self._form.dtype) if back else None
        if len(self._nodes) == 1:
            answer = self._apply(fields, [*check, "apply", "count"], grad, out)[0]
            return Outcome(answer["version"], answer["waited"], out)
        if check:
            answer = self._first({**fields, **self._numbered(user), "do": check})[0]
            if "rejected_now" in answer:
                return Outcome(answer["version"], False, out)
        self._apply(fields, ["apply"], grad, out)
        answer = self._first({**fields, **self._numbered(user), "do": ["count"]})[0]
        return Outcome(answer["version"], answer["waited"], out)

    def _apply(self, fields: dict[str, Any], steps: list[str], grad: np.ndarray, out: np.ndarray | None) -> list[dict]:
        push, requests = {"push": [fields["epoch"], next(self._pushes)]}, []
        for share in self._shares:
            part = np.ascontiguousarray(grad[..., share.begin : share.end])
            header = {**fields, **push, "do": steps, "shape": part.shape}
            requests.append((header, part.data.cast("B")))
        return self._all(requests, out)

    def _numbered(self, user: User) -> dict[str, Any]:
        return {"push": [user.epoch, next(self._pushes)]}

    def _first(self, header: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Ask the piece that counts."""
        with self._turn, self._whole():
            node = self._nodes[0]
            node.send({**header, "vector": self._vector})
            return node.receive()

    def _all(self, requests: list[tuple[dict[str, Any], Any]], out: np.ndarray | None = None) -> list[dict[str, Any]]:
        """Ask every piece, side by side; rows that come are put into `out` [rows, N]."""
        with self._turn, self._whole():
            for node, (header, data) in zip(self._nodes, requests, strict=True):
                node.send({**header, "vector": self._vector}, data)
            return [
                self._received(node, share, out) for node, share in zip(self._nodes, self._shares, strict=True)
            ]  # fmt: skip

    def _received(self, node: Holder, share: Share, out: np.ndarray | None) -> dict[str, Any]:
        if out is None:
            return node.receive()[0]
        part = out[:, share.begin : share.end]
        memory = part if part.flags.c_contiguous else np.empty(part.shape, part.dtype)
        answer, _ = node.receive(memory)
        if memory is not part:
            part[:] = memory
        return answer

    @contextlib.contextmanager
    def _whole(self) -> Any:
        """An answer that nobody has read may not be taken for the next one's."""
        try:
            yield
        except BaseException:
            self.close()
            raise
