# SPDX-License-Identifier: Apache-2.0
"""What always-on timers and ledger cost: each event alone, times how often PPO on CartPole has it.

Two questions, two tables. The primitives: seconds of an empty phase, a put and its get, a pull, a publish, on every
engine, all of it included (waking, switching, ledger, timers). The books: only what the ledger and the timers add to
them, measured by themselves; their events a second in a real run times that cost is the share of time they take, which
must stay below one per cent.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shoal
from benchmarks import record
from shoal.engines import make_engine, nbytes, phase, system
from shoal.engines.ledger import Ledger
from shoal.records.flow import merged_rows, read_flow
from shoal.types import Trajectory

MODULE = "benchmarks.micro.overhead"
ENGINES = ("inline", "simulated", "threads")
LIMIT = 0.01
UNROLL, NUM_ENVS, PARAMS = 128, 8, 9_155
PHASES_PER_STEP = ("act", "env_step")
PHASES_PER_UNROLL = ("prepare", "assemble")
PHASES_PER_UPDATE = ("update", "publish")


def nothing() -> None:
    """What an empty phase does."""


def example_trajectory() -> Trajectory:
    """A trajectory of PPO's default size on CartPole."""
    rows = (UNROLL, NUM_ENVS)
    obs = np.zeros((UNROLL + 1, NUM_ENVS, 4), np.float32)
    flags = [np.zeros(rows, bool) for _ in range(3)]
    numbers = [np.zeros(rows, np.float32) for _ in range(3)]
    lengths, version = np.zeros(rows, np.int32), np.zeros(NUM_ENVS, np.int64)
    return Trajectory(obs, lengths, numbers[0], *flags, numbers[1], (), version, numbers[2], lengths)


def seconds_each(fn: Callable[[], Any], calls: int) -> float:
    """Mean seconds of a call, the loop's own cost taken off."""
    began = time.perf_counter()
    for _ in range(calls):
        fn()
    spent = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(calls):
        nothing()
    return (spent - (time.perf_counter() - began)) / calls


def empty_phase(calls: int) -> float:
    """Seconds that `phase` adds to a call. Run by an engine."""
    return seconds_each(lambda: phase("empty", nothing), calls)


def put_and_get(calls: int, item: Any) -> float:
    """Seconds from put to put of one item handed to another worker. Run by an engine."""

    def produce(_index, channel):
        while True:
            channel.put(item, 0)

    with system("micro", "learner") as s:
        params = s.store("PARAM", "learner", None)
        channel = s.channel("TRAJ", "actor", "learner", 1, versions=params)
        s.spawn("actor", 1, produce, channel)
        channel.get()
        began = time.perf_counter()
        for _ in range(calls):
            channel.get()
        return (time.perf_counter() - began) / calls


def publish_and_pull(calls: int, params: np.ndarray) -> float:
    """Seconds of a publish that another worker waits for, and of its pull. Run by an engine."""

    def follow(_index, store, answers):
        version = -1
        while True:
            _, version = store.pull(at_least=version + 1)
            answers.put(version)

    with system("micro", "learner") as s:
        store = s.store("PARAM", "learner", params)
        answers = s.channel("TRAJ", "actor", "learner", 1)
        s.spawn("actor", 1, follow, store, answers)
        answers.get()
        began = time.perf_counter()
        for _ in range(calls):
            store.publish(params)
            answers.get()
        return (time.perf_counter() - began) / calls


def pull_again(calls: int, params: np.ndarray) -> float:
    """Seconds of a pull of a version that this worker has. Run by an engine."""
    with system("micro", "learner") as s:
        store = s.store("PARAM", "learner", params)
        return seconds_each(store.pull, calls)


def primitives(calls: int) -> dict[str, dict[str, float]]:
    """{engine: {primitive: seconds}}."""
    trajectory, params = example_trajectory(), np.zeros(PARAMS, np.float32)
    found = {}
    for name in ENGINES:
        found[name] = {
            "phase": make_engine(name).run(empty_phase, calls),
            "put + get": make_engine(name).run(put_and_get, calls // 5, trajectory),
            "publish + pull + put + get": make_engine(name).run(publish_and_pull, calls // 5, params),
            "pull again": make_engine(name).run(pull_again, calls, params),
        }
    return found


def books(calls: int) -> dict[str, float]:
    """Seconds that timers and ledger add to one phase, one wait and one message, by themselves."""
    ledger, trajectory, params = Ledger(), example_trajectory(), np.zeros(PARAMS, np.float32)
    row = ledger.row("/micro", "actor", "learner", "TRAJ", "call")
    timers: dict[str, float] = {}

    def timer() -> None:
        began = time.perf_counter()
        timers["act"] = timers.get("act", 0.0) + time.perf_counter() - began

    return {
        "timer": seconds_each(timer, calls),
        "bytes of a trajectory": seconds_each(lambda: nbytes(trajectory), calls // 5),
        "bytes of params": seconds_each(lambda: nbytes(params), calls),
        "ledger row": seconds_each(lambda: row.add(1, 0), calls),
        "queue fill": seconds_each(lambda: ledger.saw_fill("TRAJ", 1.0), calls),
    }


def real_run(env_steps: int, engine: str) -> dict[str, float]:
    """Events a second of PPO on CartPole with its preset, first row (start-up) left out."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        result = shoal.train("ppo", "CartPole-v1", env_steps=env_steps, engine=engine, run_dir=run_dir, quiet=True)
        flow = merged_rows(read_flow(run_dir / "flow.json"))
    first, last = result.metrics[0], result.metrics[-1]
    seconds = last["wall_s"] - first["wall_s"]
    config = result.config
    unrolls = last["version"] - first["version"]
    phases = {
        **dict.fromkeys(PHASES_PER_STEP, unrolls * config.unroll_length),
        **dict.fromkeys(PHASES_PER_UNROLL, unrolls),
        **dict.fromkeys(PHASES_PER_UPDATE, unrolls),
    }
    messages = {row["message"]: row["count"] / last["version"] for row in flow if row["count"]}
    return {
        "seconds": seconds,
        "env_steps_per_s": (last["env_steps"] - first["env_steps"]) / seconds,
        "phases_per_s": sum(phases.values()) / seconds,
        "messages_per_s": {name: share * unrolls / seconds for name, share in messages.items()},
    }


def shares(phase_s: float, alone: dict[str, float], run: dict[str, Any]) -> dict[str, float]:
    """Share of a second that goes to phases (timers included) and to the ledger (waits' timers included)."""
    messages = run["messages_per_s"]
    ledger = messages.get("TRAJ", 0.0) * (alone["bytes of a trajectory"] + alone["queue fill"])
    ledger += messages.get("PARAM", 0.0) * alone["bytes of params"]
    ledger += sum(messages.values()) * (alone["ledger row"] + alone["timer"])
    phases = run["phases_per_s"] * phase_s
    timers = run["phases_per_s"] * alone["timer"]
    return {"phases": phases, "timers in phases": timers, "ledger": ledger, "timers and ledger": timers + ledger}


def main() -> None:
    """Measure alone, measure a run, multiply, compare with the limit."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    calls, env_steps, repeats = (20_000, 20_000, 1) if given.quick else (500_000, 500_000, given.repeats or 5)
    began = record.conditions()
    runs = []
    for repeat in range(repeats):
        each, alone = primitives(calls), books(calls)
        for engine in ("inline", "threads"):
            run = real_run(env_steps, engine)
            share = shares(each[engine]["phase"], alone, run)
            runs.append({"repeat": repeat, "engine": engine, "run": run, "share": share})
            words = f"{run['phases_per_s']:,.0f} phases/s, phases and ledger {share['phases'] + share['ledger']:.2%}"
            print(f"{repeat + 1}/{repeats} {engine}: {words}", flush=True)
        runs[-1] |= {"primitives_s": each, "books_s": alone}
    found = summary(runs)
    show(found)
    record.write("overhead", MODULE, quick=given.quick, began=began, limit=LIMIT, summary=found, runs=runs)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Microseconds of each event, shares of a real run, and whether they stay below the limit."""
    measured = [run for run in runs if "primitives_s" in run]
    micro: dict[str, dict] = {}
    for engine in ENGINES:
        names = measured[0]["primitives_s"][engine]
        micro[engine] = {n: record.summarise([1e6 * run["primitives_s"][engine][n] for run in measured]) for n in names}
    alone = {n: record.summarise([1e6 * run["books_s"][n] for run in measured]) for n in measured[0]["books_s"]}
    share: dict[str, dict] = {}
    for engine in dict.fromkeys(run["engine"] for run in runs):
        mine = [run["share"] for run in runs if run["engine"] == engine]
        share[engine] = {what: record.summarise([each[what] for each in mine]) for what in mine[0]}
    return {
        "microseconds": micro,
        "books_microseconds": alone,
        "share": share,
        "timers_and_ledger_below_limit": all(s["timers and ledger"]["median"] < LIMIT for s in share.values()),
        "whole_phases_and_ledger_below_limit": all(
            s["phases"]["median"] + s["ledger"]["median"] < LIMIT for s in share.values()
        ),
    }


def show(found: dict[str, Any]) -> None:
    """The three tables and the verdict."""
    micro, alone, share = found["microseconds"], found["books_microseconds"], found["share"]
    rows = [[name, *(micro[engine][name]["median"] for engine in ENGINES)] for name in micro["inline"]]
    print("\n" + record.table(rows, ["microseconds, all included", *ENGINES]) + "\n")
    print(record.table([[n, v["median"]] for n, v in alone.items()], ["the books alone", "microseconds"]) + "\n")
    rows = [[what, *(f"{share[e][what]['median']:.3%}" for e in share)] for what in share["inline"]]
    print(record.table(rows, ["share of PPO on CartPole", *share]))
    for what in ("timers_and_ledger_below_limit", "whole_phases_and_ledger_below_limit"):
        print(f"{what.replace('_', ' ')} ({LIMIT:.0%}): {'yes' if found[what] else 'NO'}")


if __name__ == "__main__":
    main()
