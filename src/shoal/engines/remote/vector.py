# SPDX-License-Identifier: Apache-2.0
"""A shared vector in a child: params, moments and counts lie in shared memory, and the child reads and writes them.

In free order nothing goes to the shadow but word of a version that somebody waits for, and every few milliseconds
what has gathered meanwhile (times, notes). In fixed order pulls and pushes are the shadow's, since their order counts;
on other nodes too, since the memory is not there.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shoal.engines.remote.handles import Handle
from shoal.engines.wires.locks import ChunkLocks, RangeLocks
from shoal.engines.wires.numbers import PULLS, WANTED, Form, Lane, Numbers
from shoal.engines.wires.vector import each_free_chunk, in_turn
from shoal.engines.worker import here, phase
from shoal.errors import ShoalError
from shoal.processes.memory import Segment

if TYPE_CHECKING:
    from shoal.engines.remote.desk import Desk


class Attached(NamedTuple):
    """The vector as this process sees it."""

    numbers: Numbers
    lane: Lane
    index: int
    """of this worker in its role"""
    is_owner: bool
    max_lag: int | None
    locks: ChunkLocks
    segment: Segment


class VectorHandle(Handle):
    """See `wires.vector.Vector`."""

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        self._attached: Attached | None = None
        self._seen = -1

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        """A copy of the params, and the number of pushes in them."""
        if self._desk.asks_vectors:
            version = self._ask("pull", at_least=at_least)
            return self._desk.answer(), version
        here()
        at = self._attach()
        version = at.numbers.version
        if version < at_least:
            version = self._ask("reach", at_least=at_least)
        flat = self._copied(at)[0] if at.numbers.form.locked else at.numbers.flat.copy()
        if version != self._seen:
            self._seen = version
            if not at.is_owner:
                at.lane[PULLS] += 1
        return flat, version

    def push(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> int:
        """Apply a gradient made from the params of that version; returns the version after it."""
        if self._desk.asks_vectors:
            return self._ask("push", grad, version=version, rate=float(rate), samples=int(samples))
        worker, at = here(), self._attach()
        numbers = at.numbers
        numbers.refuse_shape(grad)
        if numbers.form.locked:
            raise ShoalError(f"{worker} pushes to a vector under locks: use exchange")
        lag = numbers.version - version
        if at.max_lag is not None and lag > at.max_lag:
            numbers.reject(at.lane, lag, samples, grad.nbytes)
            return numbers.version
        after = phase("push", numbers.push, at.lane, at.index, grad, version, rate, samples)
        self._tell_who_waits(numbers)
        return after

    def exchange(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> tuple[np.ndarray, int]:
        """Apply a gradient chunk by chunk under locks; returns the mixed params and moments, and the version."""
        if self._desk.asks_vectors:
            version = self._ask("exchange", grad, version=version, rate=float(rate), samples=int(samples))
            return self._desk.answer(), version
        worker, at = here(), self._attach()
        numbers = at.numbers
        numbers.refuse_shape(grad)
        if not numbers.form.locked:
            raise ShoalError(f"{worker} exchanges with a vector without locks: declare it locked, or use push")
        lag, out = numbers.version - version, numbers.blank()

        def work(chunk: int) -> None:
            phase("exchange", numbers.exchange, chunk, grad, rate, at.index, out)

        each_free_chunk(worker, at.locks, in_turn(numbers, at.lane, at.index), work)
        numbers.count(at.lane, lag, samples, grad.nbytes)
        at.lane[PULLS] += not at.is_owner
        self._tell_who_waits(numbers)
        return out, numbers.version

    @property
    def version(self) -> int:
        """Pushes applied."""
        return self._read("version")

    @property
    def samples(self) -> int:
        """What the pushes stood for."""
        return self._read("samples")

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return self._read("rejected")

    def moments(self) -> np.ndarray:
        """A copy of the moments."""
        if self._desk.asks_vectors:
            return self._ask("moments")
        at = self._attach()
        return at.numbers.as_given(self._copied(at)[1:])

    def _copied(self, at: Attached) -> np.ndarray:
        numbers = at.numbers
        if not numbers.form.locked:
            return numbers.copy()
        out = numbers.blank()
        chunks = iter(range(numbers.form.shards))
        each_free_chunk(here(), at.locks, chunks, lambda chunk: numbers.copy_chunk(chunk, out))
        return out

    def _read(self, name: str) -> Any:
        if self._desk.asks_vectors:
            return self._ask("attribute", name=name)
        here()
        return getattr(self._attach().numbers, name)

    def _tell_who_waits(self, numbers: Numbers) -> None:
        if numbers.words[WANTED] <= numbers.version:
            self._tell("reached")
        else:
            self._desk.tell_now_and_then("pushed")

    def _attach(self) -> Attached:
        if self._attached is None:
            here()
            message = self._desk.ask_for_message("vector", wire=self.key)
            (segment,) = self._desk.attach(message)
            facts = message.header
            numbers = Numbers(segment.map, Form(*facts["form_of"]), self._desk.answer())
            locks = RangeLocks(segment.descriptor)
            lane = numbers.lane(facts["lane"])
            self._attached = Attached(
                numbers, lane, facts["index"], facts["is_owner"], facts["max_lag"], locks, segment
            )
        return self._attached
