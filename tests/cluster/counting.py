# SPDX-License-Identifier: Apache-2.0
"""A small program whose messages say of themselves whether any was lost, doubled, torn, or out of order."""

import os
import signal
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shoal.engines import Engine, me, phase, system

SIZE = 700
"""numbers in an array: it lies in a slot, and crosses in four packets"""


class Numbered(NamedTuple):
    """What an actor puts."""

    index: int
    epoch: int
    number: int
    version: int
    """of the params that it has seen last"""
    data: np.ndarray
    crc: int


def numbered(index: int, epoch: int, number: int, version: int, size: int) -> Numbered:
    """Data that are no other message's, and their checksum."""
    data = np.random.default_rng([index, epoch, number]).standard_normal(size)
    return Numbered(index, epoch, number, version, data, zlib.crc32(data.tobytes()))


def params_of(version: int, size: int = SIZE) -> np.ndarray:
    """Params that say which they are."""
    return np.full(size, float(version))


def count(index: int, channel: Any, params: Any, size: int, rest: float = 0.0) -> None:
    """Put one number after the other, and look at the params before each."""
    last, number = -1, 0
    while True:
        value, version = params.pull()
        assert version >= last, f"version {version} after {last}"
        assert (value == float(version)).all(), f"params of version {version} are torn"
        last = version
        channel.put(phase("make", numbered, index, me().epoch, number, version, size), version)
        number += 1
        if rest:
            phase("rest", time.sleep, rest)


def count_once_killed(index: int, channel: Any, params: Any, size: int) -> None:
    """As `count`; the first life of the first actor is killed in the middle."""
    if (index, me().epoch) == (0, 0):
        for number in range(5):
            channel.put(numbered(index, 0, number, 0, size), 0)
        phase("die", os.kill, os.getpid(), signal.SIGKILL)
    count(index, channel, params, size)


def pass_on(index: int, source: Any, target: Any) -> None:
    """Hand everything on."""
    while True:
        target.put(source.get()[0])


def ask(index: int, service: Any, results: Any, size: int) -> None:
    """Ask for one sum after the other; say which life of this actor got how many."""
    number = 0
    while True:
        item = numbered(index, me().epoch, number, 0, size)
        assert service.call(item.data) == float(item.data.sum())
        number += 1
        results.put((index, me().epoch, number))


def answer(index: int, service: Any) -> None:
    """Sums."""
    while True:
        answer_once(service)


def answer_once(service: Any) -> None:
    """Sums of what was asked for together."""
    requests = service.take()
    service.reply(requests, [float(request.item.sum()) for request in requests])


class Tally:
    """What main has got."""

    def __init__(self):
        self.next: dict[tuple[int, int], int] = {}
        self.versions: dict[int, int] = {}
        self.lives: dict[int, int] = {}
        self.missing = 0
        """numbers that were passed over"""
        self.got = Counter()
        """by (index, epoch)"""

    def take(self, item: Numbered) -> None:
        """Check one message against those before it."""
        want = numbered(item.index, item.epoch, item.number, item.version, len(item.data))
        assert item.crc == want.crc == zlib.crc32(item.data.tobytes()), "torn"
        assert np.array_equal(item.data, want.data)
        who = item.index, item.epoch
        assert item.number >= self.next.get(who, 0), f"{item.number} came again, or late"
        self.missing += item.number - self.next.get(who, 0)
        self.next[who] = item.number + 1
        assert item.epoch >= self.lives.get(item.index, 0), "of a life that was over"
        if item.epoch == self.lives.get(item.index):
            assert item.version >= self.versions[item.index]
        self.lives[item.index], self.versions[item.index] = item.epoch, item.version
        self.got[who] += 1


class Counting:
    """One run.

    Args:
      items: how many to get in all.
      at: what to do once so many have come.
      until: what else must have come, however many it takes.
    """

    def __init__(  # noqa: PLR0913 as many things vary
        self,
        items: int,
        actors: int = 2,
        size: int = SIZE,
        fn: Callable[..., None] = count,
        at: dict[int, Callable[[], None]] | None = None,
        rest: tuple[float, ...] = (),
        until: Callable[[Tally], bool] = lambda _: True,
        seconds: float = 100.0,
    ):
        self.items, self.actors, self.size, self.fn, self.at = items, actors, size, fn, at or {}
        self.rest, self.until, self.seconds = rest, until, seconds
        self.tally = Tally()

    def __call__(self) -> Tally:
        """The program."""
        until = time.monotonic() + self.seconds
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", params_of(0, self.size))
            channel = s.channel("TRAJ", "actor", "learner", 4, versions=params)
            s.spawn("actor", self.actors, self.fn, channel, params, self.size, *self.rest)
            came = 0
            while came < self.items or not self.until(self.tally):
                if came in self.at:
                    self.at[came]()
                (item,) = channel.get()
                self.tally.take(item)
                params.publish(params_of(params.version + 1, self.size))
                came += 1
                assert time.monotonic() < until, f"{came} of {self.items} came in {self.seconds:g} s"
        return self.tally

    def on(self, engine: Engine) -> Tally:
        """Run it."""
        engine.run(self)
        return self.tally
