# SPDX-License-Identifier: Apache-2.0
"""Environments in workers: how they scale asleep and at work, one that is slow, memory, and a worker started anew.

Rates are of environment steps. A sleeping environment stands for one that waits for a simulator elsewhere, a working
one holds its interpreter, as simulators in Python do. Efficiency is the rate beside that of as many lone workers.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
from gymnasium import spaces

from benchmarks import record
from shoal import envs
from shoal.envs import pace
from shoal.envs.pool import in_workers
from shoal.processes import launch

MODULE = "benchmarks.scaling.env_workers"
ASLEEP_S, AT_WORK_S = 0.02, 0.001
FAST_S, FACTOR, SIBLINGS = 0.002, 100, 8
BUSY_ENVS = 16
GROUP = 8
WINDOWS = 8
WAYS = ("together", "first_ready", "bare")
BARE = """
import os, sys, time
number, asleep, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
answers, answer = os.pipe()
commands = []
for _ in range(number):
    hear, tell = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        for other in commands:
            os.close(other)
        while os.read(hear, 1):
            time.sleep(asleep)
            os.write(answer, b"x")
        os._exit(0)
    os.close(hear)
    commands.append(tell)
def step():
    for tell in commands:
        os.write(tell, b"x")
    left = number
    while left:
        left -= len(os.read(answers, left))
for _ in range(3):
    step()
began, steps = time.perf_counter(), 0
while time.perf_counter() - began < seconds:
    step()
    steps += number
print(steps / (time.perf_counter() - began))
"""
"""processes that do nothing but hear of a step, sleep, and answer: the most that this machine gives Python"""
GOALS = {"asleep_64": 0.9, "at_work_2": 1.8, "restart_s": 0.5}


class Spends:
    """Each step spends time: a fixed amount of work, or asleep; action 1 spends `factor` times as much."""

    def __init__(self, units: int = 0, sleep_s: float = 0.0, factor: float = 1.0, imports: str = ""):
        self.observation_space = spaces.Box(0, 1, (4,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.units, self.sleep_s, self.factor = units, sleep_s, factor
        self.obs = np.zeros(4, np.float32)
        if imports:
            __import__(imports)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Gymnasium's reset."""
        return self.obs, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Gymnasium's step; the episode never ends."""
        if self.units:
            pace.work(self.units)
        if self.sleep_s:
            time.sleep(self.sleep_s * (self.factor if action else 1))
        return self.obs, 0.0, False, False, {}

    def close(self) -> None:
        """There is nothing to free."""


def pool_of(workers: int, num_envs: int, env: str = f"{MODULE}:Spends", **settings: Any) -> Any:
    """A pool, reset, its first rows received."""
    pool = in_workers(envs.resolve(env, settings), workers, 60.0)(num_envs, 0)
    pool.reset(0)
    pool.recv()
    return pool


def step_together(pool: Any, seconds: float) -> float:
    """Steps a second where the owner waits for all environments."""
    action = np.zeros(pool.num_envs, np.int64)
    return rate(lambda: len(step(pool, action).slots), seconds)


def step_first_ready(pool: Any, seconds: float, slow: tuple[int, ...] = ()) -> np.ndarray:
    """Steps a second of each environment [N] where every one goes on as soon as it has answered."""
    action = np.zeros(pool.num_envs, np.int64)
    action[list(slow)] = 1
    counts = np.zeros(pool.num_envs, np.int64)
    pool.send(action)

    def turn() -> int:
        slots = pool.recv(min_ready=1).slots
        counts[slots] += 1
        pool.send(action[slots], slots)
        return len(slots)

    for _ in range(2 * pool.num_envs):
        turn()
    counts[:] = 0
    began = time.perf_counter()
    rate(turn, seconds)
    took = time.perf_counter() - began
    found = counts / took
    pool.recv()
    return found


def step(pool: Any, action: np.ndarray) -> Any:
    """One step of all environments."""
    pool.send(action)
    return pool.recv()


def rate(turn: Callable[[], int], seconds: float) -> float:
    """Counts a second of a turn done again and again, after a few that don't count."""
    for _ in range(3):
        turn()
    began = now = time.perf_counter()
    count = 0
    while now - began < seconds:
        count += turn()
        now = time.perf_counter()
    return count / (now - began)


def asleep(workers: tuple[int, ...], seconds: float) -> list[dict[str, float]]:
    """Sleeping environments, one a worker, on more and more workers."""
    rows = []
    for number in workers:
        pool = pool_of(number, number, "toy:paced", step_s=ASLEEP_S, episode_steps=10**6)
        together, first_ready = step_together(pool, seconds), step_first_ready(pool, seconds).sum()
        pool.close()
        rows.append({
            "workers": number, "together": together, "first_ready": float(first_ready), "bare": bare(number, seconds),
        })  # fmt: skip
    return rows


def bare(number: int, seconds: float) -> float:
    """Steps a second of so many processes that only sleep."""
    command = [sys.executable, "-c", BARE, str(number), str(ASLEEP_S), str(seconds)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def asleep_in_groups(workers: int, seconds: float) -> dict[str, float]:
    """As many sleeping environments and workers in pools of GROUP, each stepped together on a thread of its own, as
    actors on threads do."""
    pools = [
        pool_of(GROUP, GROUP, "toy:paced", step_s=ASLEEP_S, episode_steps=10**6) for _ in range(groups_of(workers))
    ]
    with ThreadPoolExecutor(len(pools)) as threads:
        rates = list(threads.map(lambda pool: step_together(pool, seconds), pools))
    for pool in pools:
        pool.close()
    return {"pools": len(pools), "workers_each": GROUP, "rate": sum(rates)}


def groups_of(workers: int) -> int:
    """Pools among which so many workers are shared out."""
    return max(1, workers // GROUP)


def at_work(seconds: float, units: int) -> dict[str, float]:
    """Working environments in this process, in one worker, in two; the same amount of work in each step.

    They take turns in short windows, of which the fastest counts: in the others somebody else may have had the cores.
    """
    plain = envs.resolve(f"{MODULE}:Spends", {"units": units}).make(BUSY_ENVS)
    plain.reset(0)
    plain.recv()
    stepped = {
        "in_process": plain,
        "workers_1": pool_of(1, BUSY_ENVS, units=units),
        "workers_2": pool_of(2, BUSY_ENVS, units=units),
    }
    found = dict.fromkeys(stepped, 0.0)
    for _ in range(WINDOWS):
        for name, env in stepped.items():
            found[name] = max(found[name], step_together(env, seconds / WINDOWS))
    for env in stepped.values():
        env.close()
    return found | {"speed_up": found["workers_2"] / found["workers_1"]}


def one_slow(seconds: float) -> dict[str, float]:
    """One environment FACTOR times slower than its siblings: what a sibling still does a second."""
    pool = pool_of(SIBLINGS, SIBLINGS, sleep_s=FAST_S, factor=FACTOR)
    even = step_first_ready(pool, seconds)[1:].mean()
    beside = step_first_ready(pool, seconds, slow=(0,))
    action = np.zeros(SIBLINGS, np.int64)
    action[0] = 1
    together = rate(lambda: len(step(pool, action).slots), seconds) / SIBLINGS
    pool.close()
    return {
        "sibling_even": float(even),
        "sibling_beside_slow": float(beside[1:].mean()),
        "slow": float(beside[0]),
        "sibling_together": together,
        "share_kept": float(beside[1:].mean() / even),
    }


def memory() -> dict[str, dict[str, float]]:
    """MiB of a worker: its own (USS), its share of what is shared (PSS), all that it maps (RSS)."""
    found = {"without_jax": memory_of(pool_of(4, 4))}
    found["imports_jax_itself"] = memory_of(pool_of(4, 4, imports="jax"))
    launch.shared().preload(["jax", "equinox"])  # as for actors whose network is JAX's
    found["forked_beside_jax"] = memory_of(pool_of(4, 4))
    launch.shared().close()  # later pools get a fresh one
    return found


def memory_of(pool: Any) -> dict[str, float]:
    """Means over a pool's workers, after some steps."""
    step_together(pool, 0.2)
    rows = [psutil.Process(pid).memory_full_info() for pid in pool.pids()]
    pool.close()
    return {name: float(np.mean([getattr(row, name) for row in rows])) / 2**20 for name in ("uss", "pss", "rss")}


def restart(env: str, times: int) -> list[float]:
    """Seconds from a worker's SIGKILL until its new process has finished a step."""
    pool, action, found = pool_of(2, 4, env), np.zeros(4, np.int64), []
    for _ in range(times):
        step_together(pool, 0.05)
        victim = pool.pids()[0]
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        rows = step(pool, action)
        while not (rows.valid[0] and pool.pids()[0] != victim):
            rows = step(pool, action)
        found.append(time.perf_counter() - began)
    pool.close()
    return found


def round_trip(seconds: float) -> float:
    """Seconds of a step of an environment that does nothing, in a worker."""
    pool = pool_of(1, 1)
    found = 1 / step_together(pool, seconds)
    pool.close()
    return found


def main() -> None:
    """Measure everything, again and again."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats, seconds = (1, 0.1) if given.quick else (given.repeats or 5, 2.0)
    workers = (1, 4) if given.quick else (1, 2, 4, 8, 16, 32, 64)
    began = record.conditions()
    units = round(AT_WORK_S * pace.units_per_s())
    runs = []
    for repeat in range(repeats):
        found = {
            "load_1min": os.getloadavg()[0],
            "asleep": asleep(workers, seconds),
            "asleep_in_groups": asleep_in_groups(workers[-1], seconds),
            "at_work": at_work(seconds, units),
            "one_slow": one_slow(seconds),
            "round_trip_s": round_trip(seconds / 4),
            "restart_s": {env: restart(env, 2 if given.quick else 10) for env in (f"{MODULE}:Spends", "CartPole-v1")},
        }
        runs.append(found)
        print(f"{repeat + 1}/{repeats} done, load {os.getloadavg()[0]:.1f}", flush=True)
    held = memory()
    summary = summarise(runs, workers) | {"memory_mib": held}
    show(summary)
    settings = {
        "asleep_s": ASLEEP_S, "at_work_s": AT_WORK_S, "units": units, "fast_s": FAST_S, "factor": FACTOR,
        "siblings": SIBLINGS, "busy_envs": BUSY_ENVS, "seconds": seconds, "goals": GOALS,
    }  # fmt: skip
    record.write("env_workers", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs)


def summarise(runs: list[dict[str, Any]], workers: tuple[int, ...]) -> dict[str, Any]:
    """Over the repeats."""
    scaling = []
    for at, number in enumerate(workers):
        row: dict[str, Any] = {"workers": number}
        for way in WAYS:
            rates = [run["asleep"][at][way] for run in runs]
            alone = [run["asleep"][0][way] for run in runs]
            row[way] = record.summarise(rates)
            row[f"{way}_efficiency"] = record.summarise(
                [rate / (number * one) for rate, one in zip(rates, alone, strict=True)]
            )
        scaling.append(row)
    groups = runs[0]["asleep_in_groups"] | {
        "efficiency": record.summarise([
            run["asleep_in_groups"]["rate"] / (groups_of(workers[-1]) * GROUP * run["asleep"][0]["together"])
            for run in runs
        ])
    }  # fmt: skip
    each = {
        part: {name: record.summarise([run[part][name] for run in runs]) for name in runs[0][part]}
        for part in ("at_work", "one_slow")
    }
    restarts = {
        env: record.summarise([one for run in runs for one in run["restart_s"][env]]) for env in runs[0]["restart_s"]
    }
    trips = record.summarise([run["round_trip_s"] for run in runs])
    return {"asleep": scaling, "asleep_in_groups": groups, **each, "restart_s": restarts, "round_trip_s": trips}


def show(summary: dict[str, Any]) -> None:
    """Tables for the terminal."""
    rows = [
        [r["workers"], *(r[name]["median"] for way in WAYS for name in (way, f"{way}_efficiency"))]
        for r in summary["asleep"]
    ]
    head = [part for way in WAYS for part in (way.replace("_", " "), "efficiency")]
    print("\n" + record.table(rows, ["workers, 20 ms asleep", *head]))
    groups = summary["asleep_in_groups"]
    where = f"{groups['pools']} pools of {groups['workers_each']}, each stepped together on a thread"
    print(f"{where}: efficiency {groups['efficiency']['median']:.3f}")
    rows = [[name.replace("_", " "), found["median"]] for name, found in summary["at_work"].items()]
    print("\n" + record.table(rows, ["1 ms at work", "steps/s"]))
    rows = [[name.replace("_", " "), found["median"]] for name, found in summary["one_slow"].items()]
    print("\n" + record.table(rows, ["one 100x slower", "steps/s"]))
    rows = [[name.replace("_", " "), *held.values()] for name, held in summary["memory_mib"].items()]
    print("\n" + record.table(rows, ["worker's memory, MiB", "own", "share", "mapped"]))
    rows = [[env, found["median"], found["max"]] for env, found in summary["restart_s"].items()]
    print("\n" + record.table(rows, ["killed until its next step, s", "median", "longest"]))
    print(f"\nround trip of a step that does nothing: {1e6 * summary['round_trip_s']['median']:.0f} us")


if __name__ == "__main__":
    main()
