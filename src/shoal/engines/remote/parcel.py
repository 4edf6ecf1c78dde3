# SPDX-License-Identifier: Apache-2.0
"""An item of a wire between processes: its form, and where its arrays lie.

A parcel holds a lease on its slot. The lease ends with the last array that was read from it, wherever a reference may
be: in a batch, in a view of it, or in a JAX array that uses the memory in place. So nobody has to say when a slot is
free.
"""

from typing import Any

import numpy as np

from shoal.engines.payload import nbytes
from shoal.processes import codec
from shoal.processes.codec import Packed
from shoal.processes.memory import Pool, Slots

INLINE = 4096
"""bytes up to which arrays travel inside the message"""


class Held(np.ndarray):
    """Bytes whose owner is told when the last array over them is gone."""

    owner: Any = None


def hold(owner: Any, buffer: Any, size: int, offset: int = 0) -> np.ndarray:
    """uint8 [size] over a buffer; `owner` lives as long as any array made from it."""
    held = np.ndarray.__new__(Held, (size,), np.uint8, buffer, offset)
    held.owner = owner
    return np.ndarray((size,), np.uint8, held)


class Parcel:
    """In the main process: an item on its way."""

    __slots__ = ("__weakref__", "form", "inline", "key", "nbytes", "size", "slot", "slots", "tag")

    def __init__(self, form: str, size: int, weight: int):
        self.form, self.size, self.nbytes = form, size, weight
        self.inline: bytes | None = None
        """the arrays, where they travel in the message"""
        self.slots: Slots | None = None
        self.slot = self.tag = 0
        self.key: int | None = None
        """under which other nodes can read it, once one was told"""

    @classmethod
    def inside(cls, form: str, data: bytes, weight: int) -> "Parcel":
        """An item small enough to travel in the message."""
        parcel = cls(form, len(data), weight)
        parcel.inline = data
        return parcel

    @classmethod
    def lying(cls, form: str, size: int, weight: int, slots: Slots, slot: int, tag: int) -> "Parcel":
        """An item whose arrays lie in a slot, which is this parcel's to release."""
        parcel = cls(form, size, weight)
        parcel.slots, parcel.slot, parcel.tag = slots, slot, tag
        return parcel

    @classmethod
    def of(cls, value: Any, pool: Pool, handle: Any) -> "Parcel":
        """A value of this process, copied once: into a slot of its own pool, or into the message."""
        packed = codec.pack(value, handle)
        size, weight = packed.nbytes, nbytes(value)
        if size <= INLINE:
            return cls.inside(packed.form, in_line(packed), weight)
        number, slot, tag = pool.claim(size)
        slots = pool.slots[number]
        parcel = cls.lying(packed.form, size, weight, slots, slot, tag)
        codec.write(packed, slots.segment.array((size,), np.uint8, slots.offset(slot)))
        return parcel

    def open(self, handle: Any, *, writable: bool, calls: bool = False) -> Any:
        """The value; its arrays are views that keep this parcel's slot."""
        if self.slots is None:
            memory = np.frombuffer(bytearray(self.inline or b""), np.uint8)
        else:
            memory = hold(self, self.slots.segment.map, self.size, self.slots.offset(self.slot))
        arrays = codec.read(self.form, memory)
        if not writable:
            for array in arrays:
                array.flags.writeable = False
        return codec.unpack(self.form, arrays, handle, calls=calls)

    def __del__(self):
        if self.slots is not None:
            self.slots.book.release(self.slot, self.tag)


def in_line(packed: Packed) -> bytes:
    """The arrays as bytes."""
    if not packed.arrays:
        return b""
    memory = np.empty(packed.nbytes, np.uint8)
    codec.write(packed, memory)
    return memory.tobytes()
