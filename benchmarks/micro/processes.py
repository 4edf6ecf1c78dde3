# SPDX-License-Identifier: Apache-2.0
"""What it costs that workers are processes: latency of a channel, bytes a second, params, start, restart, memory.

Everything is measured on threads beside it, where nothing is copied and nobody is started. A put copies its arrays once
into shared memory, so a plain copy of as many bytes is the measure for it. Clocks of processes are the machine's, so
that one way is measured as well as there and back. All engines and sizes take turns within a repeat.
"""

import dataclasses
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks import record
from benchmarks.micro.process_workers import NUM_ENVS, UNROLL, act, answer, follow, produce, trajectory_of
from shoal import envs
from shoal.architectures import presets, registry
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine, nbytes, system
from shoal.processes import launch

MODULE = "benchmarks.micro.processes"
ENGINES = ("threads", "processes")
SIZES = {"4 kB": 4_000, "100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
PARAMS = {"37 kB": 9_155, "6.7 MB": 1_687_206}
"""PPO's networks on CartPole and the Nature network on Pong, in numbers of four bytes"""
QUEUE_SLOTS = 2
MEMORY_WORKERS = 4
PERCENTILES = {"p50": 50, "p99": 99}
GOALS = {"restart_s": 0.5}


class Sizes(NamedTuple):
    """How much is measured in one repeat."""

    turns: int
    seconds: float
    publishes: int
    kills: int


QUICK = Sizes(turns=300, seconds=0.1, publishes=10, kills=2)
FULL = Sizes(turns=20_000, seconds=1.0, publishes=200, kills=10)


def ping_pong(turns: int) -> dict[str, list[float]]:
    """Seconds from put to got, each way, and of whole turns. Run by an engine."""
    found: dict[str, list[float]] = {"to worker": [], "from worker": [], "there and back": []}
    with system("micro", "learner") as s:
        there, back = s.channel("PING", "learner", "actor", 1), s.channel("PONG", "actor", "learner", 1)
        s.spawn("actor", 1, answer, there, back)
        for turn in range(turns + 20):
            began = perf_counter()
            there.put(began)
            ((took, sent),) = back.get()
            now = perf_counter()
            if turn >= 20:  # the first warm it up
                for way, seconds in zip(found, (took, now - sent, now - began), strict=True):
                    found[way].append(seconds)
    return found


def received(size: int, seconds: float) -> float:
    """Trajectories a second that one worker hands over. Run by an engine."""
    with system("micro", "learner") as s:
        trajectories = s.channel("TRAJ", "actor", "learner", QUEUE_SLOTS)
        s.spawn("actor", 1, produce, trajectories, size)
        for _ in range(2 * QUEUE_SLOTS):
            trajectories.get()
        return rate(trajectories.get, seconds)


def copied(size: int, seconds: float) -> float:
    """Plain copies a second of as many bytes."""
    source, target = np.ones((2, size), np.uint8)
    return rate(lambda: np.copyto(target, source), seconds)


def rate(turn: Callable[[], Any], seconds: float) -> float:
    """Calls a second."""
    began = now = perf_counter()
    count = 0
    while now - began < seconds:
        turn()
        count += 1
        now = perf_counter()
    return count / (now - began)


def publish_and_pull(numbers: int, publishes: int) -> dict[str, float]:
    """Seconds of a publish, until a worker that waits has it, and of a pull that waits for nobody. Run by an engine."""
    params = np.zeros(numbers, np.float32)
    rows = []
    with system("micro", "learner") as s:
        store, times = s.store("PARAM", "learner", params), s.channel("TIME", "actor", "learner", 1)
        s.spawn("actor", 1, follow, store, times)
        times.get()
        for _ in range(publishes):
            began = perf_counter()
            store.publish(params)
            published = perf_counter()
            ((there, pull),) = times.get()
            rows.append((published - began, there - began, pull))
    medians = np.median(rows, axis=0).tolist()
    return dict(zip(("publish", "until a worker has it", "pull again"), medians, strict=True))


def parts_of(*, in_jax: bool) -> tuple[Any, Any, np.ndarray, tuple[str, ...]]:
    """(config, parts, params, modules to preload) of IMPALA on CartPole, whose actors act in NumPy or in JAX."""
    module, factory = registry.load("impala"), envs.resolve("CartPole-v1")
    config = presets.preset("impala", factory.spec)
    parts = make_parts(module, config, factory, "auto")
    agent, (name, args) = parts.agent, parts.origin
    if in_jax:
        agent = dataclasses.replace(agent, plan=None)
        parts = parts._replace(agent=agent, origin=(name, (*args[:-1], None)))
    return config, parts, parts.learner.acting(parts.learner.init(0)), preloads(agent, module, config)


def start_and_restart(config: Any, parts: Any, params: np.ndarray, kills: int) -> dict[str, list[float]]:
    """Seconds from spawn, and from SIGKILL, until a worker has finished its first step. Run by an engine."""
    with system("micro", "learner") as s:
        told = s.channel("TIME", "actor", "learner", 1)
        began = perf_counter()
        s.spawn("actor", 1, act, config, parts, params, told)
        ((stepped, pid, _),) = told.get()
        found = {"launch": [stepped - began], "restart": []}
        for _ in range(kills):
            began = perf_counter()
            os.kill(pid, signal.SIGKILL)
            ((stepped, pid, _),) = told.get()
            found["restart"].append(stepped - began)
    return found


def held_by_workers(config: Any, parts: Any, params: np.ndarray) -> dict[str, float]:
    """Mean MiB of a worker among MEMORY_WORKERS that have acted: its own, its share of what is shared. Run by an
    engine."""
    with system("micro", "learner") as s:
        told = s.channel("TIME", "actor", "learner", MEMORY_WORKERS)
        s.spawn("actor", MEMORY_WORKERS, act, config, parts, params, told)
        workers = told.get(MEMORY_WORKERS)
        time.sleep(0.2)
        rows = [memory_of(pid) for _, pid, _ in workers]
    means = {name: statistics.mean(row[name] for row in rows) for name in rows[0]}
    return means | {"has_jax": float(any(jax for *_, jax in workers))}


def memory_of(pid: int) -> dict[str, float]:
    """MiB of a process: USS is nobody else's, PSS counts what n processes share as one n-th."""
    kib: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        kib[name] = int(value.split()[0])
    uss = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"uss": uss / 1024, "pss": kib["Pss"] / 1024, "rss": kib["Rss"] / 1024}


@contextmanager
def fresh_server() -> Iterator[None]:
    """A fork server of its own, which has imported nothing yet."""
    launch.shared().close()
    yield
    launch.shared().close()


def channels(sizes: Sizes) -> dict[str, Any]:
    """Latency and rates of one repeat, engines and sizes in turn."""
    latency = {engine: spread(make_engine(engine).run(ping_pong, sizes.turns)) for engine in ENGINES}
    rates: dict[str, dict[str, float]] = {}
    for name, size in SIZES.items():
        whole = nbytes(trajectory_of(size))
        rates[name] = {"bytes": whole, "copy": copied(whole, sizes.seconds)}
        rates[name] |= {engine: make_engine(engine).run(received, size, sizes.seconds) for engine in ENGINES}
    params = {
        name: {engine: make_engine(engine).run(publish_and_pull, numbers, sizes.publishes) for engine in ENGINES}
        for name, numbers in PARAMS.items()
    }
    return {"latency_s": latency, "rates": rates, "params_s": params}


def spread(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Percentiles of each way."""
    return {way: {n: float(np.percentile(s, p)) for n, p in PERCENTILES.items()} for way, s in found.items()}


def workers(sizes: Sizes) -> dict[str, Any]:
    """Start, restart and memory of one repeat."""
    found: dict[str, Any] = {}
    for name, in_jax in (("acts in NumPy", False), ("acts in JAX", True)):
        *parts, modules = parts_of(in_jax=in_jax)
        with fresh_server():
            run = partial(on_processes, modules)
            cold = run(start_and_restart, *parts, 0)["launch"]
            warm = run(start_and_restart, *parts, sizes.kills)
            found[name] = {"cold": cold, **warm, "memory_mib": run(held_by_workers, *parts)}
    if found["acts in NumPy"]["memory_mib"]["has_jax"] or not found["acts in JAX"]["memory_mib"]["has_jax"]:
        raise RuntimeError("who should act without JAX has imported it, or the other way round")
    return found


def on_processes(modules: tuple[str, ...], fn: Callable, *args: Any) -> Any:
    """What `fn` gives on an engine whose fork server imports these modules."""
    engine = make_engine("processes")
    engine.preload = modules
    return engine.run(fn, *args)


def main() -> None:
    """Measure everything, again and again."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    sizes, repeats = (QUICK, 1) if given.quick else (FULL, given.repeats or 5)
    began, runs = record.conditions(), []
    for repeat in range(repeats):
        runs.append({"load_1min": os.getloadavg()[0], **channels(sizes), "workers": workers(sizes)})
        print(f"{repeat + 1}/{repeats} done, load {os.getloadavg()[0]:.1f}", flush=True)
    summary = summarise(runs)
    show(summary)
    settings = {
        **sizes._asdict(), "unroll": UNROLL, "num_envs": NUM_ENVS, "queue_slots": QUEUE_SLOTS,
        "memory_workers": MEMORY_WORKERS, "goals": GOALS,
    }  # fmt: skip
    record.write("processes", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs)


def summarise(runs: list[Any]) -> Any:
    """The same tree with the repeats of each number summarised; of lists, all their numbers together."""
    first = runs[0]
    if isinstance(first, dict):
        return {name: summarise([run[name] for run in runs]) for name in first}
    return record.summarise([value for run in runs for value in (run if isinstance(run, list) else [run])])


def show(summary: dict[str, Any]) -> None:
    """Tables for the terminal."""
    rows = [
        [f"{engine}, {way}", *(1e6 * found[name]["median"] for name in PERCENTILES)]
        for engine, ways in summary["latency_s"].items()
        for way, found in ways.items()
    ]
    print("\n" + record.table(rows, ["channel, microseconds", *PERCENTILES]))
    rows = []
    for name, found in summary["rates"].items():
        giga = found["bytes"]["median"] / 1e9
        rates = [found[way]["median"] for way in ("copy", *ENGINES)]
        rows.append([name, *rates, giga * rates[0], giga * rates[2], rates[2] / rates[0]])
    head = ["trajectories a second", "copy", *ENGINES, "copy GB/s", "processes GB/s", "of a copy"]
    print("\n" + record.table(rows, head))
    rows = [
        [f"{name}, {engine}", *(1e6 * value["median"] for value in found.values())]
        for name, engines in summary["params_s"].items()
        for engine, found in engines.items()
    ]
    print("\n" + record.table(rows, ["params, microseconds", "publish", "until a worker has it", "pull again"]))
    rows = [
        [name, *(found[what]["median"] for what in ("cold", "launch", "restart")), found["restart"]["max"]]
        for name, found in summary["workers"].items()
    ]
    head = ["seconds to the first step", "server too", "launch", "after SIGKILL", "longest"]
    print("\n" + record.table(rows, head))
    rows = [
        [name, *(found["memory_mib"][kind]["median"] for kind in ("uss", "pss", "rss"))]
        for name, found in summary["workers"].items()
    ]
    print("\n" + record.table(rows, [f"MiB of a worker of {MEMORY_WORKERS}", "own", "share", "mapped"]))


if __name__ == "__main__":
    main()
