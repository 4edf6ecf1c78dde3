# SPDX-License-Identifier: Apache-2.0
"""Segments, slots and leases: aligned, without names, reused when the last array over them is gone, never too early."""

import errno
import gc
import os
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.engines.remote.parcel import Parcel
from shoal.errors import MemoryShort
from shoal.processes import limits
from shoal.processes.memory import ALIGNMENT, FEW, FIRST_SLOTS, Pool, Segment, SlotBook, Slots, align


def taken(slots: Slots) -> int:
    """How many slots somebody has."""
    return int((slots.book._claimed != slots.book._released).sum())


def none_taken(*of: Slots, seconds: float = 60.0) -> bool:
    """Whether nobody has any after a while: XLA may let go of what it has computed with after the result is there."""
    until = time.monotonic() + seconds
    while any(map(taken, of)) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.005)
    return not any(map(taken, of))


def lease(pool: Pool, values: np.ndarray):
    """What a consumer has of an item: an array over a slot of the pool, and which slot that is."""
    parcel = Parcel.of(values, pool, lambda _: None)
    assert parcel.slots is not None
    return parcel.open(None, writable=True), (parcel.slots, parcel.slot)


@given(st.integers(0, 10**9))
def test_align_is_the_next_multiple(size):
    assert align(size) % ALIGNMENT == 0
    assert 0 <= align(size) - size < ALIGNMENT


def test_slots_do_not_overlap_and_begin_where_xla_reads_in_place():
    slots = Slots.create(5, 100)
    views = [slots.segment.array((slots.slot_size,), np.uint8, slots.offset(slot)) for slot in range(5)]
    for number, view in enumerate(views):
        view[:] = number + 1
    assert all(view.ctypes.data % ALIGNMENT == 0 for view in views)
    assert [set(view.tolist()) for view in views] == [{1}, {2}, {3}, {4}, {5}]
    assert taken(slots) == 0  # the words lie elsewhere
    assert slots.offset(4) + slots.slot_size <= slots.segment.size


def test_a_segment_has_no_name_and_is_shared_by_descriptor():
    segment = Segment.create(1000)
    assert os.readlink(f"/proc/self/fd/{segment.descriptor}").startswith("/memfd:shoal")
    again = Segment(os.dup(segment.descriptor), 1000)
    segment.array((3,), np.int32)[:] = [1, 2, 3]
    assert again.array((3,), np.int32).tolist() == [1, 2, 3]
    view = again.array((3,), np.int32)
    again.close()
    del again, segment
    gc.collect()
    assert view.tolist() == [1, 2, 3]  # mapped for as long as somebody looks


def test_segments_give_their_descriptors_back():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Segment.create(4096).array((4096,), np.uint8)[:] = 1
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_too_little_memory_says_how_much_is_needed_and_free(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 12_345)
    with pytest.raises(MemoryShort) as caught:
        Pool().claim(1_000_000)
    text = str(caught.value)
    assert f"needs {4 * 1_000_000 + 64:,} bytes, 12,345 are free; lower the number of actors" in text
    assert caught.value.exit_code == 2
    assert "\n" not in text


def test_memory_that_the_kernel_will_not_give_is_told_as_well(monkeypatch):
    def refuse(descriptor, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MemoryShort, match=r"for 4 messages needs 4,000,064 bytes \(No space left on device\); lower"):
        Pool().claim(1_000_000)
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["claim", "release", "late", "abandon"]), st.integers(0, 99)), max_size=60))
def test_a_book_gives_out_what_is_free_and_nothing_else(moves):
    for count in (1, 3, FEW + 2):  # both ways of looking
        book, held, over = SlotBook(np.zeros((2, count), np.int64)), {}, []
        for move, which in moves:
            if move == "claim":
                got = book.claim()
                assert (got is None) == (len(held) == count)
                if got is not None:
                    assert got[0] not in held
                    held[got[0]] = got[1]
            elif move == "late" and over:
                book.release(*over[which % len(over)])  # means nothing
            elif held:
                slot = list(held)[which % len(held)]
                place = (slot, held.pop(slot))
                (book.release if move == "release" else book.abandon)(*place)
                over += [place] if move == "release" else []


def test_a_slot_is_free_when_the_last_array_over_it_is_gone():
    pool = Pool()
    for keep in (
        lambda a: a,
        lambda a: a[3:5],
        lambda a: a.reshape(-1, 2)[1].T,
        lambda a: a.view(np.int64),
        lambda a: {"deep": [a[:1]]},
        memoryview,
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.asarray(a, copy=False),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3),
        lambda a: iter(a),
    ):
        array, (slots, _) = lease(pool, np.arange(1000.0))
        kept = keep(array)
        del array
        gc.collect()
        assert taken(slots) == 1
        del kept
        gc.collect()
        assert none_taken(slots)
    assert len(pool.slots) == 1


def test_copies_let_go():
    array, (slots, _) = lease(Pool(), np.arange(1000.0))
    copies = [
        array.copy(),
        array + 1,
        array.astype(np.float32),
        jnp.array(array, copy=True),
        array.sum(),
        array[[1, 2]],
    ]
    jax.block_until_ready(copies[3])
    del array
    gc.collect()
    assert none_taken(slots)
    assert float(copies[3][999]) == 999


def test_slots_are_reused_and_no_more_are_made_than_are_kept():
    pool, held = Pool(), []
    for count in range(200):
        held.append(lease(pool, np.full(1000, count)))
        held = held[-3:]
    assert list(pool.slots) == [1]
    assert [int(array[0]) for array, _ in held] == [197, 198, 199]


def test_hoarding_and_growing_take_few_segments():
    pool = Pool()
    held = [lease(pool, np.full(600, count)) for count in range(500)]
    assert len(pool.slots) <= 14
    assert sum(slots.count for slots in pool.slots.values()) <= 800
    assert all((array == count).all() for count, (array, _) in enumerate(held))
    assert len({(slots.number, slot) for _, (slots, slot) in held}) == 500
    pool = Pool()
    for size in range(1000, 20_000, 7):  # each message a little larger than the one before
        lease(pool, np.zeros(size))
    assert len(pool.slots) <= 16


def test_a_small_message_does_not_take_a_large_slot():
    pool = Pool()
    _, (large, _) = lease(pool, np.zeros(100_000))
    _, (small, _) = lease(pool, np.zeros(1000))
    assert small is not large
    assert small.count == large.count == FIRST_SLOTS


def test_threads_share_a_pool():
    """Each writes its own number into what it claims and must find it there, when all begin at once and later."""
    wrong = []

    def work(number, pool, begin):
        begin.wait()
        held = []
        for count in range(20):
            held.append((lease(pool, np.full(20_000, 1000 * number + count)), 1000 * number + count))
            wrong.extend(value for (array, _), value in held if not (array == value).all())
            held = held[-2:]

    for _ in range(10):
        pool, begin = Pool(), threading.Barrier(6)
        threads = [threading.Thread(target=work, args=(number, pool, begin)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert none_taken(*pool.slots.values())
    assert wrong == []


SIZE = 300_000


@jax.jit
def slow_sum(array):
    """Reads its argument for a while after the call has returned."""
    total = array.sum()
    return jax.lax.fori_loop(0, 60, lambda _, t: jnp.sin(t) + (array * t).sum() * 1e-9, total)


def expected(value: float) -> float:
    return float(slow_sum(jnp.full(SIZE, value, jnp.float32)))


def test_overwriting_what_a_computation_reads_changes_its_result():
    """The wrong thing on purpose: this is what leases are there to make impossible."""
    expected(1.0)
    spoiled = 0
    for _ in range(5):
        array, _ = lease(Pool(), np.full(SIZE, 1.0, np.float32))
        result = slow_sum(array)
        array[:] = 2.0  # as a producer would that took the slot for free
        spoiled += float(result) != expected(1.0)
    assert spoiled > 0


def test_a_slot_is_not_free_while_a_computation_may_read_it():
    """A producer that writes whenever it can, with the consumer's references gone at once after dispatch."""
    pool, want = Pool(), {value: expected(value) for value in (1.0, 2.0, 3.0)}
    results = []
    for count in range(15):
        value = float(1 + count % 3)
        array, _ = lease(pool, np.full(SIZE, value, np.float32))
        results.append((value, slow_sum(array)))
        del array
    assert [float(result) for _, result in results] == [want[value] for value, _ in results]
    del results
    gc.collect()
    assert none_taken(*pool.slots.values())


def test_a_jax_array_over_a_slot_keeps_it():
    array, (slots, slot) = lease(Pool(), np.full(SIZE, 1.0, np.float32))
    where = array.ctypes.data
    device = jax.device_put(array)
    in_place = device.unsafe_buffer_pointer() == where
    del array
    gc.collect()
    assert in_place, "JAX copies now: what follows proves nothing any more"
    assert taken(slots) == 1
    other = lease(Pool(), np.zeros(SIZE, np.float32))
    doubled = device * 2
    del device
    gc.collect()
    assert float(doubled[0]) == 2.0
    doubled.block_until_ready()
    assert none_taken(slots)
    del other


def test_donating_what_lies_in_a_slot_does_not_give_it_away():
    array, (slots, _) = lease(Pool(), np.full(SIZE, 1.0, np.float32))
    changed = jax.jit(lambda a: a * 0 + 5, donate_argnums=0)(array)
    changed.block_until_ready()
    assert float(changed[0]) == 5.0
    assert (array == 1.0).all()  # still the consumer's, unchanged
    del array, changed
    gc.collect()
    assert none_taken(slots)
