# SPDX-License-Identifier: Apache-2.0
"""Rules that each cost somebody a day: buffers that are read later than it seems, locks of the dead, processes that
start slowly or open what is not theirs."""

import gc
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from engines import programs
from engines.running import PROCESSES, engine_of
from shoal.engines import phase, system

on_both = pytest.mark.parametrize("kind", PROCESSES)
SIZE = 200_000


@jax.jit
def slow_sum(array):
    """Reads its argument for a while after the call has returned."""
    return jax.lax.fori_loop(0, 40, lambda _, t: jnp.sin(t) + (array * t).sum() * 1e-9, array.sum())


def slots_taken(kernel) -> int:
    """Leased slots of the main process's own pool."""
    gc.collect()
    return sum(int((s.book._claimed != s.book._released).sum()) for s in kernel.pool.slots.values())


@on_both
def test_a_producer_overwrites_nothing_that_a_computation_still_reads(kind):
    """The learner forgets each item the moment its computation is dispatched, and the producer is as fast as it can."""
    wanted = [float(slow_sum(jnp.full(SIZE, count, jnp.float32))) for count in range(12)]

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 1)
            s.spawn("actor", 1, programs.put_given, channel, Numbers(12))
            return [slow_sum(channel.get()[0]) for _ in range(12)]

    results = engine_of(kind).run(program)
    assert [float(result) for result in results] == wanted


class Numbers:
    """Arrays full of 0, 1, 2, ..., made one after the other where they are put."""

    def __init__(self, count: int):
        self.count = count

    @property
    def recipe(self):
        """How another process makes the same."""
        return "engines.test_processes_rules:Numbers", (self.count,)

    def __iter__(self):
        return (np.full(SIZE, number, np.float32) for number in range(self.count))


@on_both
def test_overwriting_what_was_got_is_wrong_on_every_engine(kind):
    """On purpose: the consumer owns what it got, and if it overwrites it after dispatch, its result changes."""
    wanted = float(slow_sum(jnp.zeros(SIZE, jnp.float32) + 1))

    def program():
        spoiled = 0
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "learner", "learner", 1)
            for _ in range(5):
                channel.put(np.ones(SIZE, np.float32))
                (item,) = channel.get()
                result = slow_sum(item)
                item[:] = 2.0
                spoiled += float(result) != wanted
        return spoiled

    assert engine_of(kind).run(program) > 0


@on_both
def test_what_is_published_is_a_copy_that_donation_cannot_take(kind):
    def program():
        step = jax.jit(lambda p: p * 2, donate_argnums=0)
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.ones(SIZE, np.float32), keep=2)
            p = jnp.ones(SIZE, jnp.float32)
            for _ in range(3):
                params.publish(p)
                p = step(p)
                p.block_until_ready()
            return [float(params.pull(behind=behind)[0].max()) for behind in (0, 1)]

    assert engine_of(kind).run(program) == [4.0, 2.0]


@on_both
def test_leases_end_with_the_run(kind):
    engine = engine_of(kind)

    def program():
        with system("s", "learner") as s:
            params = s.store("PARAM", "learner", np.zeros(programs.BIG))
            channel = s.channel("TRAJ", "learner", "learner", 4)
            for count in range(20):
                channel.put(np.full(programs.BIG, count))
                params.publish(channel.get()[0])
            assert slots_taken(engine._kernel) == 1  # the latest params
            assert sum(s.count for s in engine._kernel.pool.slots.values()) == 4
        return True

    assert engine.run(program)


def test_who_is_killed_while_it_hands_over_holds_nobody_up():
    """Four workers; every 30 ms one that has handed something over is killed. What the others and their successors put
    goes on arriving."""
    stop = threading.Event()

    def kill():
        rng = np.random.default_rng(0)
        while not stop.wait(0.03):
            shadows = [shadow for w in list(engine._workers) if (shadow := w.shadow) and shadow.handed_over]
            if shadows:
                shadows[rng.integers(len(shadows))].child.kill()

    def program():
        with system("s", "learner") as s:
            channel = s.channel("TRAJ", "actor", "learner", 2)
            s.spawn("actor", 4, programs.produce_items, channel, on_failure="restart", budget=1000)
            killer.start()
            seen, count = {}, 0
            until = time.monotonic() + 250
            while len(engine.losses()) < 12 or count < 120 or {index for index, _ in seen} != {0, 1, 2, 3}:
                assert time.monotonic() < until, (engine.losses(), seen)
                (item,) = channel.get()
                assert programs.is_whole(item)
                life = (item.index, item.epoch)
                assert item.count == seen.get(life, -1) + 1  # nothing lost or doubled within a life
                seen[life], count = item.count, count + 1
            stop.set()
            phase("wait", killer.join)
            return seen, count

    engine = engine_of("processes")
    killer = threading.Thread(target=kill)
    try:
        seen, count = engine.run(program)
    finally:
        stop.set()
    assert count >= 120
    assert all("was killed by SIGKILL" in loss for loss in engine.losses())
