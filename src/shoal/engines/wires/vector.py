# SPDX-License-Identifier: Apache-2.0
"""A shared vector: flat params that many workers pull from and push gradients to, after Hogwild and DistBelief.

The vector holds the rule as well as the params, because moments are shared. On threads and processes no lock is held
while `push` works: pushes may overlap and shards need not agree on a version, which is what the algorithms built on it
accept. `exchange` works under a lock for each shard, as Stooke & Abbeel 2018 do over learners. On processes the vector
lies in shared memory, where workers read and write it themselves, and counts need no message either. On the nodes of a
cluster lies a piece of it each: `engines.cluster.spread`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from shoal.engines.ledger import ANY_ROLE, Row
from shoal.engines.wires.base import VersionLine, Wire
from shoal.engines.wires.locks import ChunkLocks
from shoal.engines.wires.numbers import (
    LAG_MAX,
    LAG_SUM,
    LANES,
    NEVER,
    PULLS,
    PUSHES,
    REJECTED,
    SENT,
    USED,
    WANTED,
    Form,
    Lane,
    Numbers,
    Rule,
)  # fmt: skip
from shoal.engines.worker import Worker, here
from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.engines.system import System

TRY_S = 30e-6
"""seconds between tries where every chunk that is left is held"""


class Vector(Wire):
    """Made by `System.vector`. `version` counts the pushes applied.

    Args:
      init: [N] initial params; copied.
      shards: number of parts the rule is called for, one after the other; locked ones are called chunks.
      moments: k, rows of zeros that the rule keeps its state in; or an array [k, N] to go on from; or an array
        [workers, k, N], of which each worker's pushes use and change its own.
      source: role that pushes; its wires are then in the ledger from the start, and its end ends a wait for versions.
      max_lag: a gradient more pushes old than this is thrown away and counted in `rejected`.
      locked: for `exchange` instead of `push`.
      version, samples: counts to go on from.

    Check: in any order of pushes by one worker at a time, params and moments are those of the rule called in that
    order, and nobody has taken a lock.
    """

    def __init__(  # noqa: PLR0913 one call, in System.vector
        self,
        system: "System",
        owner: str,
        init: Any,
        rule: Rule,
        shards: int,
        moments: Any,
        source: str | None,
        max_lag: int | None,
        locked: bool,
        version: int,
        samples: int,
    ):
        super().__init__(system, "PARAM")
        self.owner = owner
        first = np.asarray(init)
        if first.ndim != 1 or not 1 <= shards <= first.size:
            raise ConfigError(f"vector of shape {first.shape} in {shards} shards: flat params, 1 to N shards")
        rows, form = moments_given(moments, first.size)
        form = Form(first.size, first.dtype.str, form, shards, locked)
        self.form = form
        self._line = VersionLine(self, system.group(source or owner), source or owner)
        self._source, self.max_lag = source, max_lag
        self._lanes: dict[Worker, int] = {}
        self._seen: dict[Worker, tuple[int, int]] = {}
        self._told = np.zeros((LANES, 8), np.int64)
        self._begin(rule, first, rows, version, samples)
        self.ledger.row(self.path, owner, source or ANY_ROLE, "PARAM", self.kernel.via)
        if source is not None:
            self.ledger.row(self.path, source, owner, "GRAD", self.kernel.via)
        self.ledger.ask_before_reading(self.settle)

    def _begin(self, rule: Rule, first: np.ndarray, moments: np.ndarray | None, version: int, samples: int) -> None:
        """Put the first numbers and counts where workers find them."""
        buffer, self.segment = self.kernel.allocate(self.form.nbytes)
        self.numbers = Numbers(buffer, self.form, rule)
        self.numbers.begin(first, moments, version, samples)
        self.locks: ChunkLocks = self.kernel.chunk_locks(self.segment, self.form.shards)

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        """A copy of the params [N], and the number of pushes in them (at least: others may push meanwhile).

        The ledger counts it when the version is new to the worker and the worker is not the owner itself.

        Args:
          at_least: wait until that many pushes were applied.
        """
        worker = here()
        version = self.reach(at_least)
        flat = self._copied()[0] if self.form.locked else self.numbers.flat.copy()
        if self._seen.get(worker) != (version, worker.epoch):
            self._seen[worker] = (version, worker.epoch)
            if self._role(worker)[0] != self.owner:
                self.lane_of(worker)[PULLS] += 1
        if self.kernel.charges:
            self.kernel.charge(worker, "read PARAM", flat.nbytes, self.owner)
        return flat, version

    def reach(self, at_least: int) -> int:
        """The version, once that many pushes were applied."""
        if self.version < at_least:
            worker, words = here(), self.numbers.words
            with self.kernel.lock:
                words[WANTED] = min(words[WANTED], at_least)
                try:
                    if self.version < at_least:  # who pushes counts first and looks at the word then
                        self._line.wait(worker, at_least, self.version)
                finally:
                    words[WANTED] = min(self._line.waited_for, default=NEVER)
        return self.version

    def reached(self, version: int) -> None:
        """Wake those who wait for this version or an earlier one."""
        with self.kernel.lock:
            self._line.reached(version)

    def heard(self, version: int) -> None:
        """A worker in another process has pushed."""

    @property
    def latest(self) -> int:
        """The version, for who measures lags against it."""
        return self.version

    def push(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> int:
        """Apply a gradient [N] (or [m, N], if the rule takes several) made from the params of that version; returns the
        version that it made. Nothing is locked.

        The work is timed, and in virtual time charged, as a phase named push.

        Args:
          rate: the rule's step size.
          samples: how many the gradient stands for; their sum is `samples`, those of rejected gradients included.
        """
        worker, numbers = here(), self.numbers
        self.form.refuse(worker, grad, "push")
        lane, lag = self.lane_of(worker), self.version - version
        if self.max_lag is not None and lag > self.max_lag:
            numbers.reject(lane, lag, samples, grad.nbytes)
            return self.version
        args = (lane, self._role(worker)[1], grad, version, rate, samples)
        after = self.kernel.run_wire_work(worker, "push", numbers.push, args)
        self._tell_who_waits()
        return after

    def exchange(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> tuple[np.ndarray, int]:
        """Apply a gradient chunk by chunk, each under its lock, in the order in which they are free; returns what came
        of every chunk while it was held, params and rows of moments [1 + rows, N], in which others' pushes are mixed,
        and the version after it.

        A chunk that a killed worker left half written is restored from the copy made before. Phases are named exchange.

        Args: see `push`.
        """
        worker, numbers = here(), self.numbers
        self.form.refuse(worker, grad, "exchange")
        lane, lag = self.lane_of(worker), self.version - version
        out, index = numbers.blank(), self._role(worker)[1]

        def work(chunk: int) -> None:
            args = (chunk, grad, rate, index, out)
            self.kernel.run_wire_work(worker, "exchange", numbers.exchange, args)

        each_free_chunk(worker, self.locks, in_turn(numbers, lane, index), work)
        numbers.count(lane, lag, samples, grad.nbytes)
        lane[PULLS] += self._role(worker)[0] != self.owner
        self._tell_who_waits()
        return out, self.version

    @property
    def version(self) -> int:
        """Pushes applied."""
        return self.numbers.version

    @property
    def samples(self) -> int:
        """What the pushes stood for, as their makers say."""
        return self.numbers.samples

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return self.numbers.rejected

    def moments(self) -> np.ndarray:
        """A copy of the moments [k, N] or [workers, k, N], for checkpoints."""
        return self.form.as_given(self._copied()[1:])

    def _copied(self) -> np.ndarray:
        """Params and moments; where chunks are exchanged, each under its lock."""
        worker, numbers = here(), self.numbers
        if not numbers.form.locked:
            return numbers.copy()
        out = numbers.blank()
        chunks = iter(range(numbers.form.shards))
        each_free_chunk(worker, self.locks, chunks, lambda chunk: numbers.copy_chunk(chunk, out))
        return out

    def role_ended(self, role: str) -> None:
        if role == (self._source or self.owner):
            self._line.give_up()

    def close(self) -> None:
        self.settle()
        self.ledger.ask_no_more(self.settle)

    def lane_number(self, worker: Worker) -> int:
        """Which lane of counts is the worker's; it keeps it when it is started anew."""
        number = self._lanes.get(worker)
        if number is None:
            with self.kernel.lock:
                number = len(self._lanes)
                if number >= LANES:
                    raise ConfigError(f"more than {LANES} workers of {self.path} use one vector; use fewer")
                self._lanes[worker] = number
                self._use_lanes(number + 1)
        return number

    def facts(self, worker: Worker) -> dict[str, Any]:
        """What the worker must know to pull and push by itself."""
        role, index = self._role(worker)
        return {
            "form_of": self.form.facts, "lane": self.lane_number(worker), "index": index,
            "is_owner": role == self.owner, "max_lag": self.max_lag,
        }  # fmt: skip

    def lane_of(self, worker: Worker) -> Lane:
        """The worker's own counts."""
        return self.numbers.lane(self.lane_number(worker))

    def settle(self) -> None:
        """Bring the ledger up to date with the lanes."""
        size, lanes = self.form.size * np.dtype(self.form.dtype).itemsize, list(self._lanes.items())
        counts = self._counts(len(lanes))
        for worker, number in lanes:
            now, told = counts[number], self._told[number]
            new = now - told
            self._told[number] = now
            if new[PULLS]:
                self._row(worker, "PARAM").add_many(new[PULLS], size)
            pushed = new[PUSHES] + new[REJECTED]
            if pushed:
                row = self._row(worker, "GRAD")
                row.add_many(pushed, 0, (new[LAG_SUM], now[LAG_MAX]))
                row.bytes += int(new[SENT])

    def _use_lanes(self, count: int) -> None:
        self.numbers.words[USED] = count

    def _counts(self, lanes: int) -> np.ndarray:
        """What the first lanes have counted, [lanes, 8]."""
        return np.array([self.numbers.lane(number) for number in range(lanes)], np.int64)

    def _tell_who_waits(self) -> None:
        if self.numbers.words[WANTED] <= self.version:
            self.reached(self.version)

    def _role(self, worker: Worker) -> tuple[str, int]:
        return worker.roles.get(self.path, (worker.role, worker.index))

    def _row(self, worker: Worker, message: str) -> Row:
        role = self._role(worker)[0]
        ends = (role, self.owner) if message == "GRAD" else (self.owner, role)
        return self.ledger.row(self.path, *ends, message, self.kernel.via)


def moments_given(moments: Any, size: int) -> tuple[np.ndarray | None, tuple[int, ...]]:
    """(moments to begin with or None, their form without N). Raises ConfigError for what fits no params [N]."""
    if isinstance(moments, int):
        return None, (moments,)
    rows = np.asarray(moments)
    if rows.ndim not in (2, 3) or rows.shape[-1] != size:
        raise ConfigError(f"moments of shape {rows.shape} for params of shape ({size},): [k, N] or [workers, k, N]")
    return rows, rows.shape[:-1]


def in_turn(numbers: Numbers, lane: Lane, index: int) -> Iterator[int]:
    """All chunks, beginning with another one for every worker and at every time."""
    chunks, first = numbers.form.shards, lane[PUSHES] + index
    return ((first + i) % chunks for i in range(chunks))


def each_free_chunk(worker: Worker, locks: ChunkLocks, chunks: Iterator[int], work: Callable[[int], None]) -> None:
    """Do the work on every chunk, whichever is free first, holding its lock."""
    left, held = deque(chunks), 0
    while left:
        chunk = left.popleft()
        if locks.take(chunk):
            try:
                work(chunk)
            finally:
                locks.give(chunk)
            held = 0
            continue
        left.append(chunk)
        held += 1
        if held >= len(left):
            held = 0
            began = perf_counter()
            sleep(TRY_S)
            worker.waits["exchange PARAM"] = worker.waits.get("exchange PARAM", 0.0) + perf_counter() - began
            worker.check()
