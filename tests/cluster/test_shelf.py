# SPDX-License-Identifier: Apache-2.0
"""Items that lie on one node's shelf and are read on another's: the same bytes, brought once, or a loss."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from cluster.proxy import Weather
from shoal.engines.cluster import shelf as shelves
from shoal.engines.cluster.shelf import Place, Shelf
from shoal.engines.cluster.squeeze import LOOKS, RETHINK, SLOW, SMALL, Squeeze, squeezed, unsqueezed
from shoal.engines.faults import MessageLost
from shoal.engines.remote.parcel import Parcel
from shoal.errors import ConfigError
from shoal.processes.memory import Pool

SECRET = b"s" * 32
LOOPBACK = "127.0.0.1"
SIZES = [5_000, 100_000, 1_000_003, 20_000_000]


class Two:
    """Shelves of two nodes, the second one's way to the first under some weather."""

    def __init__(self, compress: str = "auto"):
        self.weather, self.pool = Weather(), Pool()
        self.far, self.near = Shelf(LOOPBACK, SECRET), Shelf(LOOPBACK, SECRET, compress)
        self.served: list[int] = []
        self.far.address = self.weather.via("far", self.far.address)

    def put(self, data: np.ndarray) -> tuple[Place, Parcel]:
        """On the far shelf."""
        parcel = Parcel.of(data, self.pool, no_wire)
        return self.far.put(parcel), parcel

    def copied(self, place: Place, parcel: Parcel) -> np.ndarray:
        """On the near one."""
        return self.near.copy(place, parcel.form, parcel.nbytes).open(str, writable=False)

    @property
    def source(self) -> shelves.Source:
        """The far shelf as the near one sees it."""
        return self.near._sources[self.far.address]

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.weather.close()


def until(true, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


@pytest.fixture
def two():
    both = Two()
    yield both
    both.close()


@pytest.fixture
def always():
    both = Two("always")
    yield both
    both.close()


def no_wire(value: object) -> None:
    """These items hold no wires."""


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8)


def counted(monkeypatch) -> list[int]:
    """Keys of which bytes were sent, from now on."""
    keys, real = [], shelves.bytes_of
    monkeypatch.setattr(shelves, "bytes_of", lambda parcel: keys.append(parcel.size) or real(parcel))
    return keys


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["noise", "frames"])
@pytest.mark.parametrize("compress", ["never", "always"])
def test_what_is_fetched_equals_what_was_put(size, kind, compress):
    both = Two(compress)
    data = noise(size) if kind == "noise" else (np.arange(size) // 1000).astype(np.uint8)
    place, parcel = both.put(data)
    assert np.array_equal(both.copied(place, parcel), data)
    memory = both.near.ask(place).result(60)
    assert np.array_equal(memory[:size], data)
    packed = compress == "always" and kind == "frames" and size > SMALL
    assert (0 < both.source.squeeze.ratio < 0.1) == packed
    both.close()


def test_what_lies_here_is_not_fetched(two):
    place, parcel = two.put(noise(10_000))
    assert two.far.here(place) is parcel
    assert two.far.copy(place, parcel.form, parcel.nbytes) is parcel
    two.far.drop(place.key)
    assert two.far.here(place) is None


def test_many_who_ask_at_once_cause_one_transfer(two, monkeypatch):
    keys = counted(monkeypatch)
    two.weather.delay = 0.02
    place, parcel = two.put(noise(1_000_000))
    came, together = [], threading.Barrier(20)

    def ask() -> None:
        together.wait()
        came.append(two.near.copy(place, parcel.form, parcel.nbytes))

    asking = [threading.Thread(target=ask) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert len(came) == 20
    assert len({id(one) for one in came}) == 1
    assert len(keys) == 1


def test_copies_are_bounded(two, monkeypatch):
    """What was read last is kept, and what somebody reads is never taken away."""
    monkeypatch.setattr(shelves, "ROOM", 1_000_000)
    places = [two.put(np.full(300_000, number, np.uint8)) for number in range(10)]
    arrays = [two.copied(*one) for one in places]
    assert [two.near.here(place) is not None for place, _ in places] == [False] * 7 + [True] * 3
    two.near.here(places[7][0])
    two.copied(*places[0])
    assert [n for n, (place, _) in enumerate(places) if two.near.here(place) is not None] == [0, 7, 9]
    assert all((array == number).all() for number, array in enumerate(arrays))
    segments = len(two.near._pool.slots)
    del arrays
    gc.collect()
    for one in places * 3:
        two.copied(*one)
    assert len(two.near._pool.slots) == segments  # slots of copies that nobody holds are used again


def test_an_item_larger_than_the_room_comes_all_the_same(two, monkeypatch):
    monkeypatch.setattr(shelves, "ROOM", 1000)
    place, parcel = two.put(noise(100_000))
    assert np.array_equal(two.copied(place, parcel), noise(100_000))


def test_a_dropped_item_is_lost_for_all_who_ask(two):
    place, parcel = two.put(noise(10_000))
    kept, other = two.put(noise(20_000))
    two.far.drop(place.key)
    with pytest.raises(MessageLost, match=r"^a message of 10,048 bytes lay on 127.0.0.1:\d+, which is gone$"):
        two.copied(place, parcel)
    with pytest.raises(MessageLost):
        two.near.ask(place).result(60)
    assert np.array_equal(two.copied(kept, other), noise(20_000))  # the connection serves on


@pytest.mark.parametrize("frozen", [True, False])
def test_who_waits_for_a_node_that_is_gone_is_told_at_once(two, frozen):
    """Also in the middle of a transfer, and whoever asks afterwards."""
    place, parcel = two.put(noise(20_000_000))
    other, _ = two.put(noise(10_000))
    two.weather.delay = 0.02
    faults, begun = [], threading.Barrier(6)

    def ask(what) -> None:
        begun.wait()
        try:
            what()
        except MessageLost as lost:
            faults.append(lost)

    if frozen:
        two.weather.freeze(30)
    else:
        two.far.close()
        two.weather.reset()
    what = [lambda: two.copied(place, parcel)] * 4 + [lambda: two.near.ask(other).result()]
    waiting = [threading.Thread(target=ask, args=(one,), daemon=True) for one in what]
    for thread in waiting:
        thread.start()
    begun.wait()
    time.sleep(0.1)
    assert not faults  # it might come back
    two.near.forget(two.far.address)
    for thread in waiting:
        thread.join(20)
    assert len(faults) == 5
    with pytest.raises(MessageLost):
        two.copied(place, parcel)
    with pytest.raises(MessageLost):
        two.near.ask(other).result(20)


def test_memory_that_is_being_written_to_is_given_back_last(two):
    """A node that is lost in the middle of an item must not write to what the next one has got its place in."""
    place, parcel = two.put(np.full(20_000_000, 7, np.uint8))
    two.weather.delay = 0.01
    for _ in range(5):
        address = two.weather.via("far", two.far._listener.address)
        fetching = threading.Thread(target=lose_quietly, args=(two.near, Place(address, place.key, place.size), parcel))
        fetching.start()
        time.sleep(0.03)
        two.near.forget(address)
        fetching.join(60)
        number, slot, tag = two.near._pool.claim(place.size)
        slots = two.near._pool.slots[number]
        memory = slots.segment.array((place.size,), np.uint8, slots.offset(slot))
        memory[:] = 0
        time.sleep(0.01)
        assert not memory.any()
        slots.book.release(slot, tag)


def lose_quietly(shelf: Shelf, place: Place, parcel: Parcel) -> None:
    try:
        shelf.copy(place, parcel.form, parcel.nbytes)
    except MessageLost:
        return


def test_another_runs_shelf_is_a_loss_and_no_hang():
    other, near = Shelf(LOOPBACK, b"another"), Shelf(LOOPBACK, SECRET)
    future = near.ask(Place(other.address, 1, 100))
    threading.Timer(0.3, near.forget, (other.address,)).start()  # a listener that hangs up may be one that restarts
    with pytest.raises(MessageLost):
        future.result(60)
    near.close()
    other.close()


def test_a_transfer_that_broke_is_taken_up_again(two, monkeypatch):
    place, parcel = two.put(noise(20_000_000))
    passed = itertools.count(1)

    def break_it() -> float:
        """Asked for every packet, of which an item of this size has three hundred at least."""
        if next(passed) in (50, 100, 150):
            two.weather.reset()
        return 0.0

    monkeypatch.setattr(two.weather, "stall", break_it)
    assert np.array_equal(two.copied(place, parcel), noise(20_000_000))
    assert two.weather.resets == 3
    assert two.source.connections > 1


def test_many_items_over_a_connection_that_breaks_again_and_again(two):
    items = [two.put(noise(size)) for size in range(5_000, 400_000, 9_000)]
    two.weather.delay = 0.003
    over = threading.Event()

    def break_it() -> None:
        for _ in range(30):  # then nothing breaks any more, however slowly items come
            if not over.wait(0.08):
                two.weather.reset()

    breaking = threading.Thread(target=break_it)
    breaking.start()
    futures = [two.near.ask(place) for place, _ in items]
    for (place, parcel), future in zip(items, futures, strict=True):
        size = parcel.nbytes
        assert np.array_equal(future.result(60)[:size], noise(size)), place
    over.set()
    breaking.join()


def test_a_connection_that_has_died_in_silence_is_made_anew(two, monkeypatch):
    monkeypatch.setattr(shelves, "SILENCE_S", 0.3)
    first, parcel = two.put(noise(10_000))
    two.copied(first, parcel)
    before = two.source.connections
    time.sleep(0.7)
    assert two.source.connections == before  # nothing is asked for: silence is as it should be
    place, parcel = two.put(noise(30_000))
    two.weather.freeze(600)
    copies = []
    copying = threading.Thread(target=lambda: copies.append(two.copied(place, parcel)))
    copying.start()
    assert until(lambda: two.source._stream is None)
    two.weather.thaw()
    copying.join(60)
    assert np.array_equal(copies[0], noise(30_000))
    assert two.source.connections > before


def test_what_is_shown_is_there_as_long_as_it_is_held(two):
    parcel = Parcel.of(noise(10_000), two.pool, no_wire)
    form, weight = parcel.form, parcel.nbytes
    place = two.far.show(parcel)
    assert two.far.show(parcel) == place
    assert np.array_equal(two.near.ask(place).result(60)[:10_000], noise(10_000))
    del parcel
    gc.collect()
    with pytest.raises(MessageLost):
        two.near.copy(place, form, weight)


def test_what_many_show_at_once_has_one_place(two):
    for _ in range(20):
        parcel, places, together = Parcel.of(noise(10_000), two.pool, no_wire), [], threading.Barrier(8)

        def show(parcel=parcel, places=places, together=together) -> None:
            together.wait()
            places.append(two.far.show(parcel))

        showing = [threading.Thread(target=show) for _ in range(8)]
        for thread in showing:
            thread.start()
        for thread in showing:
            thread.join()
        assert len(set(places)) == 1


# whether to pack


def fed(squeeze: Squeeze, rate: float, count: int, share: float = 0.3, size: int = 100_000) -> list[bool]:
    """Items over a link of so many bytes a second that shrink to a share: whether each was asked for packed."""
    asked = []
    for _ in range(count):
        asked.append(squeeze.wanted)
        came = int(size * share) if asked[-1] and share < 0.8 else size
        squeeze.saw(size, came, came / rate, asked=asked[-1])
    return asked


@pytest.mark.parametrize("rate", [SLOW / 100, SLOW / 1.1, SLOW * 1.1, SLOW * 100])
def test_auto_packs_exactly_on_slow_links(rate):
    asked = fed(Squeeze(), rate, 100)
    assert not any(asked[:LOOKS])
    assert asked[LOOKS:] == [rate < SLOW] * (100 - LOOKS)


def test_auto_tries_what_does_not_shrink_once_in_a_while():
    asked = fed(Squeeze(), SLOW / 10, 5 * RETHINK, share=1.0)
    assert 1 <= sum(asked) <= 6


def test_auto_notices_that_a_link_has_changed():
    squeeze = Squeeze()
    assert any(fed(squeeze, SLOW / 10, RETHINK))
    assert not any(fed(squeeze, SLOW * 10, 2 * RETHINK)[RETHINK:])
    assert all(fed(squeeze, SLOW / 10, 2 * RETHINK)[RETHINK + 2 * LOOKS :])


def test_small_items_are_left_alone():
    squeeze = Squeeze()
    assert not any(fed(squeeze, SLOW / 10, 50, size=SMALL))
    assert squeeze.rate is None
    assert squeezed(memoryview(bytes(SMALL))) is None


def test_ways_and_what_is_no_way():
    assert all(fed(Squeeze("always"), SLOW * 10, 10))
    assert not any(fed(Squeeze("never"), SLOW / 10, 50))
    with pytest.raises(ConfigError, match=r"^compress='x' is unknown: use auto, always or never$"):
        Squeeze("x")


def test_packed_is_smaller_or_nothing():
    plain = np.repeat(np.arange(100, dtype=np.uint8), 1000)
    packed = squeezed(memoryview(plain))
    assert packed is not None
    assert len(packed) < 0.1 * len(plain)
    memory = np.empty_like(plain)
    unsqueezed(packed, memory)
    assert np.array_equal(memory, plain)
    assert squeezed(memoryview(noise(100_000))) is None


def test_over_a_slow_network_what_shrinks_is_packed(two):
    """As measured."""
    items = [two.put(np.full(100_000, number, np.uint8)) for number in range(LOOKS + 3)]
    two.weather.loss = 0.02
    for number, one in enumerate(items):
        assert (two.copied(*one) == number).all()
    assert two.source.squeeze.rate is not None
    assert two.source.squeeze.rate < SLOW
    assert 0 < two.source.squeeze.ratio < 0.1
