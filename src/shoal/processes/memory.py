# SPDX-License-Identifier: Apache-2.0
"""Shared memory without names: the kernel frees a segment when the last process that has it ends.

A producer's segment is cut into slots. Slot numbers travel, arrays don't:

    free --claim (producer)--> being written --message--> leased --release (consumer)--> free

Two words a slot say where it is, each written by one side only: `claimed` by the producer, `released` by the consumer.
A slot is free when they are equal, and the value of `claimed` is the slot's tag. Nobody takes a lock, so nobody can die
holding one. A process that is started anew has segments of its own: what an old one still writes reaches nobody.
"""

import itertools
import mmap
import os
import threading
from typing import Any

import numpy as np

from shoal.errors import MemoryShort
from shoal.processes.limits import out_of_files, require_memory

ALIGNMENT = 64
"""bytes; what XLA wants of arrays that it reads in place"""
FIRST_SLOTS = 4
"""of a pool's first segment"""
FEW = 16
"""slots up to which looking at one after the other is faster than at all at once"""


def align(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Segment:
    """Memory that processes map: anonymous, passed on by descriptor."""

    def __init__(self, descriptor: int, size: int):
        self.descriptor = -1
        self.map = mmap.mmap(descriptor, size)
        self.descriptor, self.size = descriptor, size

    @classmethod
    def create(cls, size: int, purpose: str = "a segment") -> "Segment":
        """New zeroed memory of `size` bytes, all of it reserved. Raises MemoryShort in one line."""
        require_memory(size, purpose)  # the kernel would grant it and kill somebody later
        try:
            descriptor = os.memfd_create("shoal", os.MFD_CLOEXEC)
        except OSError as error:
            raise out_of_files(error) from error
        try:
            os.posix_fallocate(descriptor, 0, size)
            return cls(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            raise MemoryShort(
                f"shared memory for {purpose} needs {size:,} bytes ({error.strerror}); lower the number of actors, "
                "environments per actor, unroll_length or queue slots, or raise its limit"
            ) from error

    def array(self, shape: Any, dtype: Any, offset: int = 0) -> np.ndarray:
        """An array [*shape] over this memory, from `offset` bytes on."""
        return np.ndarray(shape, dtype, self.map, offset)

    def close(self) -> None:
        """Give the descriptor back. The memory stays mapped while an array over it lives."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self):
        self.close()


class SlotBook:
    """The words of one segment's slots: the protocol alone, over any array of whole numbers [2, slots].

    Check: in every interleaving of claims, releases, deaths and restarts no slot is lost or given out twice.
    """

    def __init__(self, words: np.ndarray):
        self._claimed, self._released = words

    def claim(self) -> tuple[int, int] | None:
        """(slot, tag) of a free slot, now the producer's to write; None when there is none."""
        slots = range(len(self._claimed))
        if len(slots) > FEW:
            slots = np.flatnonzero(self._claimed == self._released).tolist()  # only who claims makes them fewer
        for slot in slots:
            if self._claimed[slot] == self._released[slot]:
                self._claimed[slot] += 1
                return slot, int(self._claimed[slot])
        return None

    def abandon(self, slot: int, tag: int) -> None:
        """The producer gives back a slot that it claimed and never announced."""
        if self._claimed[slot] == tag:
            self._claimed[slot] = tag - 1

    def release(self, slot: int, tag: int) -> None:
        """The consumer is through with what the slot held under this tag; another tag's is left alone."""
        if self._claimed[slot] == tag:
            self._released[slot] = tag


_numbers = itertools.count()


class Slots:
    """A segment cut into slots of equal size, after a head with the words of its book."""

    def __init__(self, segment: Segment, count: int, slot_size: int):
        self.number = next(_numbers)
        self.segment, self.count, self.slot_size = segment, count, slot_size
        self.book = SlotBook(segment.array((2, count), np.int64))
        self._head = align(16 * count)

    @classmethod
    def create(cls, count: int, slot_size: int) -> "Slots":
        """New slots of at least `slot_size` bytes. Raises MemoryShort."""
        slot_size = align(slot_size)
        return cls(Segment.create(align(16 * count) + count * slot_size, f"{count} messages"), count, slot_size)

    def offset(self, slot: int) -> int:
        """Where a slot begins in the segment."""
        return self._head + slot * self.slot_size


class Pool:
    """A producer's slots: taken where one fits and is free, made where none is. Threads of the producer may share it.

    What limits the number of messages on their way is the wire's capacity, so the pool only ever holds about as many
    slots as consumers really keep. More are made half as many as there are at a time, and with a quarter to spare
    where messages grow, so that neither hoarding nor growth takes many segments.
    """

    def __init__(self):
        self.slots: dict[int, Slots] = {}
        self._turn = threading.Lock()  # within this process: it dies with whoever holds it

    def claim(self, size: int) -> tuple[int, int, int]:
        """(segment id, slot, tag) of a slot of at least `size` bytes. Raises MemoryShort."""
        with self._turn:
            for number, slots in self.slots.items():
                if _fits(size, slots.slot_size) and (taken := slots.book.claim()):
                    return number, *taken
            number = len(self.slots) + 1
            slots = self.slots[number] = self._more(size)
            taken = slots.book.claim()
            if taken is None:
                raise AssertionError("a new segment has no free slot")
            return number, *taken

    def _more(self, size: int) -> Slots:
        there = sum(slots.count for slots in self.slots.values() if _fits(size, slots.slot_size))
        grows = any(slots.slot_size < size <= 2 * slots.slot_size for slots in self.slots.values())
        return Slots.create(max(FIRST_SLOTS, there // 2), size + size // 4 if grows else size)


def _fits(size: int, slot_size: int) -> bool:
    """Whether a message belongs into slots of this size: one much smaller would waste what a larger one needs."""
    return size <= slot_size <= 4 * align(size)
