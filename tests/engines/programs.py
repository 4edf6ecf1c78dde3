# SPDX-License-Identifier: Apache-2.0
"""Workers' functions that other processes find by name: what the tests of the engine `processes` spawn."""

import builtins
import os
import sys
import time
import zlib
from typing import Any, NamedTuple

import numpy as np

from shoal import errors
from shoal.engines import Ended, me, note, now, phase, select, system

BIG = 3000
"""numbers in an array that is too large for a message and lies in a slot"""


class Item(NamedTuple):
    """A message that says whether it is whole."""

    index: int
    epoch: int
    count: int
    data: np.ndarray
    crc: int


def make_item(index: int, epoch: int, count: int, size: int = BIG) -> Item:
    """Data that differs from that of every other item, and its checksum."""
    data = np.arange(size, dtype=np.int64) * (count + 1) + 1000 * index + epoch
    return Item(index, epoch, count, data, zlib.crc32(data.tobytes()))


def is_whole(item: Item) -> bool:
    """Nothing of it is missing, and nothing of another is in it."""
    want = make_item(item.index, item.epoch, item.count, len(item.data))
    return item.crc == want.crc == zlib.crc32(item.data.tobytes()) and np.array_equal(item.data, want.data)


def work(*args: Any) -> Any:
    """A phase's work: give back what was given."""
    return args[0] if args else None


def put_all(index, channel, count):
    for item in range(count):
        channel.put((index, phase("make", work, item)))


def produce(index, channel):
    while True:
        channel.put(phase("work", work, index))


def produce_items(index, channel, size=BIG):
    count = 0
    while True:
        channel.put(phase("make", make_item, index, me().epoch, count, size))
        count += 1


def produce_marking(index, channel, path):
    """Write down how many items were begun."""
    for count in range(10**9):
        with open(path, "w") as file:
            file.write(str(count + 1))
        channel.put(phase("make", np.full, BIG, count))


def put_given(index, channel, items):
    for item in items:
        channel.put(item)


def put_once(index, channel):
    channel.put(index)


def get_once(index, channel):
    channel.get()


def forward(index, source, target):
    while True:
        target.put(source.get()[0])


def forward_changed(index, source, target):
    """What was got may be written to, and handed on."""
    while True:
        (item,) = source.get()
        item["a"] += 1
        target.put(item)


def count_drops(index, channel, results):
    for item in range(7):
        channel.put(item)
    results.put((channel.dropped, channel.get(2)))


def select_by_turns(index, a, b, chosen):
    for _ in range(6):
        wire = (a, b)[select(a.can_get, b.can_get)]
        chosen.put((wire is a, wire.get()[0]))


def ask(index, service, results, count):
    for k in range(count):
        results.put((service.call((index, k)), (index, k)))


def answer(index, service, sizes):
    while True:
        requests = service.take()
        sizes.put(len(requests))
        service.reply(requests, [(r.index, r.item[1]) for r in requests])


def work_then_ask(index, service):
    for _ in range(index * 5):
        phase("work", work)
    service.call(index)


def ask_or_be_busy(index, service, served):
    """The second client never asks, and does not end."""
    if index == 0:
        served.put(service.call(0))
    else:
        while True:
            phase("busy", time.sleep, 0.01)


def ask_and_fail(index, service, results):
    if me().epoch == 0:
        service.send("lost")
        raise ValueError("after asking")
    results.put(service.call("asked anew"))


def use_a_ticket_twice(index, service, results):
    ticket = service.send(np.arange(BIG))
    results.put(service.result(ticket))
    service.result(ticket)


def double(index, service):
    while True:
        requests = service.take()
        service.reply(requests, [r.item * 2 for r in requests])


def publish_some(index, params, count):
    for version in range(1, count + 1):
        params.publish(np.full(BIG, version))


def pull_behind(index, params, results, go):
    for _ in range(2):
        go.get()
        got = [params.pull(behind=behind) for behind in (0, 1, 2)]
        results.put(([int(value[0]) for value, _ in got], [version for _, version in got], params.version))


def write_to_params(index, params):
    value, _ = params.pull()
    value[0] = 5


def wait_for_version(index, params, version):
    params.pull(at_least=np.int64(version))


def rms(params, moments, grad, rate):
    moments[0] = 0.9 * moments[0] + 0.1 * grad**2
    params -= grad / np.sqrt(moments[0] + 1)


def add(params, moments, grad, rate):
    params += grad


def push_some(index, vector, pulled, count):
    for _ in range(count):
        flat, version = vector.pull()
        vector.push(np.arange(float(len(flat))), version)
    pulled.put((index, vector.version >= count, vector.rejected))


def push_old(index, vector, results):
    for _ in range(4):
        vector.push(np.ones(3), 0, samples=5)
    results.put((vector.version, vector.rejected, vector.samples))


def end_well(index, channel, path):
    """Whatever happens, leave a sign."""
    try:
        while True:
            channel.put(phase("work", work, index))
    except Exception:  # noqa: BLE001 what a user might write
        sign(path, index, "swallowed")
    finally:
        sign(path, index, "ended")


def sign(path, index, word):
    with open(f"{path}/{index}-{word}", "w"):
        pass


def print_something(index, channel):
    sys.stdout.write(f"worker {index} says hello\n")
    channel.put(index)


def never_end(index, channel):
    channel.put(index)
    while True:
        time.sleep(0.01)


def phase_in_phase(index, how):
    use = {"phase": lambda: phase("inner", work), "system": lambda: system("x", "y").__enter__(), "note": now}
    phase("outer", use[how])


def put_in_phase(index, channel):
    phase("outer", channel.put, 1)


def who_am_i(index, channel):
    channel.put(tuple(me())[:4])
    with system("in", "learner"):
        channel.put(tuple(me())[:4])
    channel.put(tuple(me())[:4])


def tell_process(index, channel):
    jax = [name for name in ("jax", "jaxlib", "equinox", "optax") if name in sys.modules]
    with open("/proc/self/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    channel.put((index, os.getpid(), parent, jax, os.environ.get("JAX_PLATFORMS")))


def note_things(index, channel):
    note(index=index, value=0.5)
    channel.put(index)
    note(index=10 + index, value=0.5)  # goes with the last message


def note_and_go_on(index, channel):
    for count in range(10**9):
        note(count=count)
        channel.put(phase("work", work, index))


def tell_time(index, channel):
    channel.put(now())


def sleep_in_phases(index, channel, path=None, together=1):
    """Tell how long a phase took that sleeps when so many workers are in theirs."""
    began = time.perf_counter()
    phase("sleep", sleep_together, index, path, together)
    channel.put(time.perf_counter() - began)


def sleep_together(index, path, together):
    if path is not None:
        sign(path, index, "begun")
        until = time.monotonic() + 60
        while len(os.listdir(path)) < together:
            assert time.monotonic() < until
            time.sleep(0.005)
    time.sleep(0.1)


def kept_waiting(index, channel, params):
    """Tell how long a pull took."""
    began = time.perf_counter()
    params.pull(at_least=1)
    waited = time.perf_counter() - began
    phase("short", time.sleep, 0.05)
    channel.put(waited)


def fail_at(index, channel, bad, kind, text):
    for _ in range(3):
        channel.put(phase("work", work, index))
    if index == bad:
        raise make_error(kind, text)
    while True:
        channel.put(phase("work", work, index))


class OwnError(Exception):
    """Of a module that the main process does not look at."""


class OwnFault(errors.EnvironmentFault):
    """A user's own kind of fault."""


def make_error(kind: str, text: str) -> BaseException:
    """An exception by the name of its class."""
    own = {"OwnError": OwnError, "OwnFault": OwnFault, "Ended": Ended}
    if kind in own:
        return own[kind](text)
    if kind == "UnicodeDecodeError":
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, text)
    if kind == "ExceptionGroup":
        return ExceptionGroup(text, [ValueError("inner")])
    return getattr(errors if hasattr(errors, kind) else builtins, kind)(text)


def fail_in_phase(index):
    phase("divide", divmod, 1, 0)


def member(index, channel, bad):
    with system("inner", "learner") as s:
        trajectories = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", 2, fail_at, trajectories, 1 if index == bad else -1, "EnvironmentFault", "bad")
        while True:
            trajectories.get()


def member_that_fails_itself(index, channel):
    with system("inner", "learner") as s:
        trajectories = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", 2, produce, trajectories)
        trajectories.get()
        raise ZeroDivisionError("mine")


def member_that_goes_on(index, channel):
    """A failure caught around a system is over with it."""
    for bad in (0, -1):
        try:
            with system("inner", "learner") as s:
                trajectories = s.channel("TRAJ", "actor", "learner", 2)
                s.spawn("actor", 2, fail_at, trajectories, bad, "ValueError", "x")
                got = trajectories.get(40)
                while bad == 0:
                    trajectories.get()
        except errors.ShoalError as failed:
            channel.put(str(failed))
            continue
    channel.put(len(got))


def member_that_waits(index):
    with system("inner", "learner") as s:
        s.channel("TRAJ", "actor", "learner", 1).get()


def member_at_work(index, channel):
    with system("inner", "learner") as s:
        trajectories = s.channel("TRAJ", "actor", "learner", 2)
        s.spawn("actor", 2, produce_items, trajectories)
        count = 0
        while True:
            (item,) = trajectories.get()
            assert is_whole(item)
            count += 1
            if count % 5 == 0:
                channel.put((index, me().epoch, os.getpid()))


def fail_until(index, channel, last):
    channel.put((index, me().epoch))
    if index == 0 and me().epoch < last:
        raise ValueError("again")


def fail_always(index, channel):
    if index == 1:
        raise ValueError("for good")
    produce(index, channel)


def fail_while_ended(index, channel):
    try:
        produce(index, channel)
    finally:
        raise OSError("close failed")


def tell_host(index, channel):
    channel.put((index, me().host))
