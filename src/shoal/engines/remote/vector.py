# SPDX-License-Identifier: Apache-2.0
"""A shared vector in a child, in one of three ways.

- Attached: params, moments and counts lie in shared memory, which the child reads and writes. Nothing goes to the
  shadow but word of a version that somebody waits for, and every few milliseconds what has gathered meanwhile (times,
  notes).
- Spread: they lie on nodes of a cluster, which the child asks directly; its shadow hears as much as of the above.
- Asked: in fixed order pulls and pushes are the shadow's, since their order counts.
"""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shoal.engines.remote.handles import Handle
from shoal.engines.wires.locks import RangeLocks
from shoal.engines.wires.numbers import PULLS, WANTED, Form, Numbers
from shoal.engines.wires.vector import each_free_chunk, in_turn
from shoal.engines.worker import current, here, phase

if TYPE_CHECKING:
    from shoal.engines.remote.desk import Desk


class Way(Protocol):
    """How a child gets at a vector; see `VectorHandle` for what the methods do."""

    def pull(self, at_least: int) -> tuple[np.ndarray, int]: ...
    def push(self, grad: np.ndarray, version: int, rate: float, samples: int) -> int: ...
    def exchange(self, grad: np.ndarray, version: int, rate: float, samples: int) -> tuple[np.ndarray, int]: ...
    def read(self, name: str) -> Any: ...
    def moments(self) -> np.ndarray: ...


class VectorHandle(Handle):
    """See `wires.vector.Vector`."""

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        self._found: Way | None = None

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        """A copy of the params, and the number of pushes in them."""
        return self._way.pull(at_least)

    def push(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> int:
        """Apply a gradient made from the params of that version; returns the version after it."""
        return self._way.push(grad, version, float(rate), int(samples))

    def exchange(self, grad: np.ndarray, version: int, rate: float = 1.0, samples: int = 0) -> tuple[np.ndarray, int]:
        """Apply a gradient chunk by chunk under locks; returns the mixed params and moments, and the version."""
        return self._way.exchange(grad, version, float(rate), int(samples))

    @property
    def version(self) -> int:
        """Pushes applied."""
        return self._way.read("version")

    @property
    def samples(self) -> int:
        """What the pushes stood for."""
        return self._way.read("samples")

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return self._way.read("rejected")

    def moments(self) -> np.ndarray:
        """A copy of the moments."""
        return self._way.moments()

    @property
    def _way(self) -> Way:
        here()
        found = self._found
        if found is None:
            ways = {"asked": Asked, "attached": Attached, "spread": Spread}
            found = self._found = ways[self._desk.vectors](self.key, self._desk)
        return found


class Asked(Handle):
    """The shadow does it."""

    def pull(self, at_least: int) -> tuple[np.ndarray, int]:
        version = self._ask("pull", at_least=at_least)
        return self._desk.answer(), version

    def push(self, grad: np.ndarray, version: int, rate: float, samples: int) -> int:
        return self._ask("push", grad, version=version, rate=rate, samples=samples)

    def exchange(self, grad: np.ndarray, version: int, rate: float, samples: int) -> tuple[np.ndarray, int]:
        version = self._ask("exchange", grad, version=version, rate=rate, samples=samples)
        return self._desk.answer(), version

    def read(self, name: str) -> Any:
        return self._ask("attribute", name=name)

    def moments(self) -> np.ndarray:
        return self._ask("moments")


class Own(Handle):
    """What a child has that pulls and pushes by itself.

    Attributes:
      facts: what the main process says of the vector and of this worker's part in it.
    """

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        self.message = desk.ask_for_message("vector", wire=key)
        self.facts = self.message.header
        self.form = Form(*self.facts["form_of"])

    def tell_of(self, version: int, *, waited: bool) -> None:
        """A push has made this version, for which somebody waits or nobody does."""
        if waited:
            self._tell("reached", version=version)
        else:
            self._desk.tell_now_and_then("pushed", wire=self.key, version=version)


class Attached(Own):
    """The child does it, in shared memory."""

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        (self._segment,) = desk.attach(self.message)
        self._numbers = Numbers(self._segment.map, self.form, desk.answer())
        self._locks = RangeLocks(self._segment.descriptor)
        self._lane = self._numbers.lane(self.facts["lane"])
        self._index, self._is_owner = self.facts["index"], self.facts["is_owner"]
        self._max_lag = self.facts["max_lag"]
        self._seen = -1

    def pull(self, at_least: int) -> tuple[np.ndarray, int]:
        version = self._numbers.version
        if version < at_least:
            version = self._ask("reach", at_least=at_least)
        flat = self._copied()[0] if self.form.locked else self._numbers.flat.copy()
        if version != self._seen:
            self._seen = version
            if not self._is_owner:
                self._lane[PULLS] += 1
        return flat, version

    def push(self, grad: np.ndarray, version: int, rate: float, samples: int) -> int:
        numbers = self._numbers
        self.form.refuse(here(), grad, "push")
        lag = numbers.version - version
        if self._max_lag is not None and lag > self._max_lag:
            numbers.reject(self._lane, lag, samples, grad.nbytes)
            return numbers.version
        after = phase("push", numbers.push, self._lane, self._index, grad, version, rate, samples)
        self._tell_who_waits()
        return after

    def exchange(self, grad: np.ndarray, version: int, rate: float, samples: int) -> tuple[np.ndarray, int]:
        worker, numbers = here(), self._numbers
        self.form.refuse(worker, grad, "exchange")
        lag, out = numbers.version - version, numbers.blank()

        def work(chunk: int) -> None:
            phase("exchange", numbers.exchange, chunk, grad, rate, self._index, out)

        each_free_chunk(worker, self._locks, in_turn(numbers, self._lane, self._index), work)
        numbers.count(self._lane, lag, samples, grad.nbytes)
        self._lane[PULLS] += not self._is_owner
        self._tell_who_waits()
        return out, numbers.version

    def read(self, name: str) -> Any:
        return getattr(self._numbers, name)

    def moments(self) -> np.ndarray:
        return self.form.as_given(self._copied()[1:])

    def _copied(self) -> np.ndarray:
        numbers = self._numbers
        if not self.form.locked:
            return numbers.copy()
        out = numbers.blank()
        chunks = iter(range(self.form.shards))
        each_free_chunk(here(), self._locks, chunks, lambda chunk: numbers.copy_chunk(chunk, out))
        return out

    def _tell_who_waits(self) -> None:
        version = self._numbers.version
        self.tell_of(version, waited=self._numbers.words[WANTED] <= version)


class Spread(Own):
    """Nodes do it, asked directly."""

    def __init__(self, key: str, desk: "Desk"):
        from shoal.engines.cluster.holders import Holders, Share, User

        super().__init__(key, desk)
        facts, worker = self.facts, here()
        assert desk.secret is not None
        shares = [Share(tuple(address), *numbers) for address, *numbers in facts["shares"]]
        self._holders = Holders(facts["vector"], shares, self.form, desk.secret, self._check)
        self._user = User(facts["lane"], facts["index"], worker.epoch, facts["is_owner"])

    def pull(self, at_least: int) -> tuple[np.ndarray, int]:
        if at_least > 0 and self.read("version") < at_least:
            self._ask("reach", at_least=at_least)
        return self._holders.pull(self._user)

    def push(self, grad: np.ndarray, version: int, rate: float, samples: int) -> int:
        self.form.refuse(here(), grad, "push")
        args = (self._user, grad, version, rate, samples, self.facts["max_lag"], 0)
        outcome = phase("push", self._holders.push, *args)
        self.tell_of(outcome.version, waited=outcome.waited)
        return outcome.version

    def exchange(self, grad: np.ndarray, version: int, rate: float, samples: int) -> tuple[np.ndarray, int]:
        self.form.refuse(here(), grad, "exchange")
        args = (self._user, grad, version, rate, samples, None, 1 + self.form.rows)
        outcome = phase("exchange", self._holders.push, *args)
        self.tell_of(outcome.version, waited=outcome.waited)
        assert outcome.rows is not None
        return outcome.rows, outcome.version

    def read(self, name: str) -> Any:
        return self._holders.look()[name]

    def moments(self) -> np.ndarray:
        return self._holders.moments()

    def _check(self) -> None:
        """Raises what makes it useless to wait for a node: the main process knows."""
        worker = current.get()
        assert worker is not None
        worker.check()  # a phase may be why it asks
        self._desk.ask("attribute", wire=self.key, name="lost")
