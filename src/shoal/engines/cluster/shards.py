# SPDX-License-Identifier: Apache-2.0
"""What a node holds of shared vectors: pieces of their params and moments, which workers anywhere pull and push.

    worker ==TCP==> shard server of a node: piece = shard | shard | ...      a lock for each shard
           ==TCP==> shard server of another node: ...

Nothing of it passes through the program's main process. The rule works number by number, so pieces need not know of
each other; each push is applied to a shard as a whole. One piece of a vector also counts its pushes: the first.

A request names the steps that it wants, which are taken in order:

    look    version, samples and rejected; with a user, it is counted as a pull of that version
    check   whether a gradient is too old; if so it is counted as rejected, and nothing more is done
    apply   the rule on this piece
    copy    params, or params and moments
    count   a push that has been applied to all pieces
    lanes   the counts of all workers
"""

import threading
from collections import defaultdict
from typing import Any

import numpy as np

from shoal.engines.cluster.frames import Listener, Stream
from shoal.engines.remote.errors import encode
from shoal.engines.wires.numbers import PULLS, USED, Form, Numbers
from shoal.errors import ShoalError
from shoal.processes import codec

Answer = tuple[dict[str, Any], np.ndarray | None]
Header = dict[str, Any]


class Piece:
    """Of one vector: n of its numbers, in shards.

    Args:
      rows: [1 + rows of moments, n], params first.
      version, samples: counts to go on from.

    Check: however many push at a time, no push to a shard is lost, and none is seen half done.
    """

    def __init__(self, form: Form, rule: Any, rows: np.ndarray, version: int, samples: int):
        self._numbers = Numbers(np.zeros(form.nbytes, np.uint8).data, form, rule)
        self._numbers.begin(rows[0], rows[1:], version, samples)
        self._locks = [threading.Lock() for _ in range(form.shards)]
        self._counting = threading.Lock()
        self._applied = version
        """pushes to this piece, those included that have not been counted yet"""
        self._wanted: list[int] = []
        """versions that somebody waits for in the main process"""
        self._looked: dict[int, tuple[int, int]] = {}
        """by lane, (epoch, version) of the last look"""
        self._turns: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._answers: dict[int, tuple[list[int], dict[str, Any]]] = {}
        """by lane, the last push and what was answered"""

    def answer(self, header: Header, data: np.ndarray) -> Answer:
        """Take the steps of a request; what belongs to a push only once, though it may come again over a new
        connection."""
        if "push" not in header:
            return self._take(header, data)
        lane, push = header["lane"], header["push"]
        with self._turns[lane]:
            before, answered = self._answers.get(lane, (None, {}))
            if before == push:
                return answered, self._copy([0, header["back"]]) if header.get("back") else None
            answered, out = self._take(header, data)
            self._answers[lane] = push, answered
        return answered, out

    def want(self, header: Header) -> Answer:
        """Somebody waits for a version, or does so no more."""
        with self._counting:
            if header["waits"]:
                self._wanted.append(header["version"])
            elif header["version"] in self._wanted:
                self._wanted.remove(header["version"])
            return {"version": self._numbers.version}, None

    def _take(self, header: Header, data: np.ndarray) -> Answer:
        numbers = self._numbers
        answer: dict[str, Any] = {}
        out: np.ndarray | None = None
        for step in header["do"]:
            if step == "apply":
                out = self._apply(header, data)
            elif step == "copy":
                answer["holds"] = self._applied  # before the copy: it may hold more
                out = self._copy(header["rows"])
            elif step == "lanes":
                out = np.array([numbers.lane(n) for n in range(numbers.words[USED])], np.int64)
            else:
                answer |= {"check": self._check, "look": self._look, "count": self._count}[step](header)
            if answer.get("rejected_now"):
                break
        return answer, out

    def _look(self, header: Header) -> dict[str, Any]:
        """Counts a pull of a version that is new to the worker."""
        numbers, lane = self._numbers, header.get("lane")
        with self._counting:
            version = numbers.version
            if lane is not None and self._looked.get(lane) != (header["epoch"], version):
                self._looked[lane] = header["epoch"], version
                self._lane(lane)[PULLS] += not header["is_owner"]
            return {"version": version, "samples": numbers.samples, "rejected": numbers.rejected}

    def _check(self, header: Header) -> dict[str, Any]:
        with self._counting:
            version = self._numbers.version
            lag = version - header["version"]
            if lag <= header["max_lag"]:
                return {}
            self._numbers.reject(self._lane(header["lane"]), lag, header["samples"], header["nbytes"])
            return {"rejected_now": True, "version": version, "waited": False}

    def _apply(self, header: Header, data: np.ndarray) -> np.ndarray | None:
        """The rule, shard by shard, each under its lock; beginning with another one for every worker."""
        numbers, index, shards = self._numbers, header["index"], len(self._locks)
        grad = data.view(header["dtype"]).reshape(header["shape"])
        out = numbers.blank() if header["back"] else None
        for i in range(shards):
            shard = (i + index) % shards
            with self._locks[shard]:
                numbers.apply(shard, index, grad, header["rate"])
                if out is not None:
                    numbers.copy_chunk(shard, out)
        with self._counting:
            self._applied += 1
        return out

    def _count(self, header: Header) -> dict[str, Any]:
        numbers = self._numbers
        with self._counting:
            lane, lag = self._lane(header["lane"]), numbers.version - header["version"]
            numbers.count(lane, lag, header["samples"], header["nbytes"])
            if header["back"]:
                lane[PULLS] += not header["is_owner"]
            version = numbers.version
            waited = any(wanted <= version for wanted in self._wanted)
        return {"version": version, "waited": waited}

    def _copy(self, rows: list[int]) -> np.ndarray:
        """Rows from the first of these to before the second, each shard under its lock."""
        out = self._numbers.blank()[slice(*rows)]
        for shard, lock in enumerate(self._locks):
            with lock:
                self._numbers.copy_chunk(shard, out, rows[0])
        return out

    def _lane(self, number: int) -> Any:
        words = self._numbers.words
        words[USED] = max(words[USED], number + 1)
        return self._numbers.lane(number)


class ShardServer:
    """Of one node.

    Args:
      host: address to listen on.
    """

    def __init__(self, host: str, secret: bytes):
        self._pieces: dict[int, Piece] = {}
        self._listener = Listener(host, secret, self._serve, "cluster shards")
        self.address = self._listener.address

    def close(self) -> None:
        """Serve nobody any more."""
        self._listener.close()

    def _serve(self, stream: Stream) -> None:
        data = np.empty(0, np.uint8)
        while True:
            header, size = stream.receive_head()
            if data.size != size:  # of pushes it is always the same
                data = np.empty(size, np.uint8)
            if size:
                stream.receive_data(data)
            try:
                answer, out = self._answer(header, data)
            except Exception as error:  # noqa: BLE001 whoever asked raises it
                answer, out = {"error": encode(error)}, None
            stream.send(answer, b"" if out is None or not out.size else out.data.cast("B"))

    def _answer(self, header: Header, data: np.ndarray) -> Answer:
        op, vector = header["op"], header["vector"]
        if op == "make":
            rule, rows = codec.unpack(header["form"], codec.read(header["form"], data), calls=True)
            form = Form(*header["form_of"])
            self._pieces[vector] = Piece(form, rule, rows, header["version"], header["samples"])
            return {}, None
        if op == "drop":
            self._pieces.pop(vector, None)
            return {}, None
        if vector not in self._pieces:
            raise ShoalError(f"this node holds nothing of vector {vector} any more: its system was left")
        piece = self._pieces[vector]
        return piece.want(header) if op == "want" else piece.answer(header, data)
