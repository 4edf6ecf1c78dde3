# SPDX-License-Identifier: Apache-2.0
"""The slots' protocol, model-checked: in no order of single steps is one lost, given out twice or read too early.

What is run is `SlotBook` itself, each read and each write of a word being a step of its own.
"""

import random

import pytest

from processes.protocol import Broken, Limits, Model, explore
from shoal.processes.memory import SlotBook

MILLION = 1_000_000
NONE = Limits(abandons=0, deaths=0, reader_deaths=0, repeats=0)


def test_in_every_order_slots_are_neither_lost_nor_given_out_twice():
    """One slot, two items, and each misfortune once: 50,000 states, through which about 10^20 orders lead."""
    explored = explore(Model(Limits(slots=1, items=2)))
    assert explored.states > 40_000
    assert explored.interleavings > MILLION


def test_in_every_order_with_more_slots_and_no_death_of_the_producer():
    assert explore(Model(Limits(slots=2, items=3, capacity=2, deaths=0))).interleavings > MILLION


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("drop_oldest", [True, False])
def test_in_every_order_of_a_larger_model(drop_oldest):
    explored = explore(Model(Limits(slots=2, items=2, drop_oldest=drop_oldest)))
    assert explored.states > 300_000
    assert explored.interleavings > MILLION


def walk(model: Model, rng: random.Random) -> int:
    """One order, each step drawn by lot; how many steps it had."""
    state, count = model.start(), 0
    while following := list(model.steps(state)):
        state, count = rng.choice(following), count + 1
    model.check_end(state)
    return count


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_many_orders_of_a_model_too_large_for_every_one():
    rng = random.Random(0)
    for slots, items in ((3, 6), (2, 8), (5, 5)):
        limits = Limits(slots=slots, items=items, capacity=3, abandons=3, deaths=3, reader_deaths=3, repeats=3)
        for _ in range(1000):
            walk(Model(limits), rng)


class IgnoresTheTag(SlotBook):
    """A late release frees what is somebody else's by now."""

    def release(self, slot, tag):
        self._released[slot] = self._claimed[slot]


class TakesTheFirst(SlotBook):
    """Whether it is free or not."""

    def claim(self):
        self._claimed[0] += 1
        return 0, int(self._claimed[0])


class NeverMarks(SlotBook):
    """What it gives out stays free."""

    def claim(self):
        for slot in range(len(self._claimed)):
            if self._claimed[slot] == self._released[slot]:
                return slot, int(self._claimed[slot]) + 1
        return None


class NeverFrees(SlotBook):
    """What was read is never given out again."""

    def release(self, slot, tag):
        """Nothing."""


class KeepsWhatWasAbandoned(SlotBook):
    """So it is lost."""

    def abandon(self, slot, tag):
        """Nothing."""


class CountsReleases(SlotBook):
    """One release too many frees what is being written."""

    def release(self, slot, tag):
        if self._claimed[slot] >= tag:
            self._released[slot] += 1


class Flags(SlotBook):
    """One bit in place of a tag, which comes round again: what is old looks like what is new."""

    def claim(self):
        for slot in range(len(self._claimed)):
            if self._claimed[slot] == self._released[slot]:
                self._claimed[slot] = 3 - self._claimed[slot] if self._claimed[slot] else 1
                return slot, int(self._claimed[slot])
        return None


SMALL = Limits(slots=1, items=4, deaths=0, reader_deaths=0)


@pytest.mark.parametrize(
    ("book", "limits", "says"),
    [
        (IgnoresTheTag, SMALL._replace(abandons=0), "given out twice|saw what was not announced"),
        (TakesTheFirst, NONE, "given out twice"),
        (NeverMarks, NONE, "given out twice"),
        (NeverFrees, NONE, "slot lost"),
        (KeepsWhatWasAbandoned, SMALL, "slot lost"),
        (CountsReleases, SMALL._replace(abandons=0), "given out twice|slot lost"),
        (Flags, SMALL._replace(abandons=0), "given out twice|saw what was not announced"),
    ],
)
def test_a_book_that_is_wrong_is_caught(book, limits, says):
    with pytest.raises(Broken, match=says):
        explore(Model(limits, book))
    explore(Model(limits))


def test_a_new_life_in_old_memory_is_caught():
    """Why a producer that is started anew gets segments of its own: the old one may still write."""
    limits = NONE._replace(slots=1, items=2, deaths=1)
    explore(Model(limits))
    with pytest.raises(Broken):
        explore(Model(limits._replace(new_segments=False)))
