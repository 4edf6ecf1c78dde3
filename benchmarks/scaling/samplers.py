# SPDX-License-Identifier: Apache-2.0
"""Alternating beside plain central sampling: what the overlap gains, measured beside the formula.

B environments of E seconds on W cores, inference that takes a + b B seconds. A step of all environments takes
(B/W) E + a + b B plain and max((B/W) E, 2 a + b B) in two groups that take turns. Asleep, a worker stands for a core
and inference for an accelerator: nobody takes anything from anybody. At work, all of them share this machine's cores,
and what the formula promises is bounded by what they have to do in all.

Alternating has W workers in each group, as its paper has, so that a group alone can use all W cores; without overlap
only one group steps at a time, which is the formula's case. Beside it stands plain sampling with 2 W workers.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from benchmarks import record
from shoal import envs
from shoal.actors.samplers import start
from shoal.agents.host_policy import Entry as PlanEntry
from shoal.agents.host_policy import Layer, Plan, acting_in_numpy
from shoal.architectures import a2c
from shoal.architectures.assemble import maker_of
from shoal.envs import pace

MODULE = "benchmarks.scaling.samplers"
NUM_ENVS, WORKERS = 8, 2
ENV_S = 0.004
"""of a step of one environment: (B/W) E is 16 ms"""
ROUND_S = ENV_S * NUM_ENVS / WORKERS
AT_WORK_S = 0.001
GOALS = {"equal, all per row": 1.5, "latency twice the environments": 1.0}
MATRIX = 384


class Case(NamedTuple):
    """How long inference takes, beside a round of the environments."""

    name: str
    fixed: float
    """a, in rounds (B/W) E"""
    per_batch: float
    """b B, in rounds"""


CASES = (
    Case("no inference", 0.0, 0.0),
    Case("half, all per row", 0.0, 0.5),
    Case("equal, all per row", 0.0, 1.0),
    Case("equal, half fixed", 0.5, 0.5),
    Case("equal, all fixed", 1.0, 0.0),
    Case("latency twice the environments", 2.0, 0.0),
    Case("twice, all per row", 0.0, 2.0),
)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"sampler": "central", "env_workers": WORKERS},
    "alternating": {"sampler": "alternating", "env_workers": WORKERS, "alternate_overlap": False},
    "overlapping": {"sampler": "alternating", "env_workers": WORKERS},
    "plain, 2 W": {"sampler": "central", "env_workers": 2 * WORKERS},
}
WAYS_AT_WORK = ("alternating", "overlapping")


def plain_round(case: Case) -> float:
    """Rounds (B/W) E that a step of all environments takes in central sampling."""
    return 1 + case.fixed + case.per_batch


def alternating_round(case: Case) -> float:
    """The same for two groups that take turns."""
    return max(1.0, 2 * case.fixed + case.per_batch)


def sampler_of(way: dict[str, Any], busy: bool, infer: Callable[[int], None]) -> Any:
    """A sampler over paced environments whose policy also calls infer(rows)."""
    config = a2c.Config(envs_per_actor=NUM_ENVS, **way)
    kwargs = {"step_s": AT_WORK_S if busy else ENV_S, "busy": busy, "episode_steps": 10**6}
    factory = envs.resolve("toy:paced", kwargs)
    plan = Plan((PlanEntry((), None, 4, ()),), None, (Layer(0, 4, 2),), None)
    acting = acting_in_numpy(plan, factory.spec)

    def act(bound: Any, obs: Any, memory: Any, noise: Any) -> Any:
        infer(len(noise))
        return acting.act(bound, obs, memory, noise)

    parts = SimpleNamespace(make_env=maker_of(config, factory), agent=dataclasses.replace(acting, act=act), seed=0)
    return start(0, config, parts)


def seconds_of_a_step(sampler: Any, steps: int) -> float:
    """Of all environments, over one unroll after a short one."""
    params = np.zeros(10, np.float32)
    sampler.unroll(params, 0, 3)
    began = time.perf_counter()
    sampler.unroll(params, 0, steps)
    return (time.perf_counter() - began) / steps


def measure(ways: dict[str, dict[str, Any]], steps: int, busy: bool, infer: Callable[[int], None]) -> dict[str, float]:
    """Seconds of a step in each way, one after the other."""
    found = {}
    for name, way in ways.items():
        sampler = sampler_of(way, busy, infer)
        found[name] = seconds_of_a_step(sampler, steps)
        sampler.close()
    return found


def asleep(case: Case, steps: int) -> dict[str, float]:
    """Environments and inference that wait for something else than this machine."""

    def infer(rows: int) -> None:
        pace.spend(ROUND_S * (case.fixed + case.per_batch * rows / NUM_ENVS), False)

    return measure(WAYS, steps, False, infer)


def at_work(steps: int) -> dict[str, dict[str, float]]:
    """Environments and inference that share the cores, each at work for as long: on one core, and on all of them."""
    round_s = AT_WORK_S * NUM_ENVS / WORKERS
    repeats = max(1, round(round_s / seconds_of_products(1)))

    def on_one_core(rows: int) -> None:
        pace.spend(round_s * rows / NUM_ENVS, True)

    def on_all_cores(rows: int) -> None:
        products(max(1, round(repeats * rows / NUM_ENVS)))

    some = {name: WAYS[name] for name in ("plain", "alternating", "overlapping")}
    return {
        "one core": measure(some, steps, True, on_one_core),
        "all cores": measure(some, steps, True, on_all_cores),
    }


@functools.cache
def _matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(MATRIX, MATRIX)).astype(np.float32)


def products(count: int) -> None:
    """So many matrix products, on as many cores as the library takes."""
    for _ in range(count):
        _matrix() @ _matrix()


def seconds_of_products(count: int) -> float:
    """The fastest of some tries."""
    products(3)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        products(count)
        times.append(time.perf_counter() - began)
    return min(times)


def bounds_at_work() -> dict[str, float]:
    """The most that overlap can gain at work, by what has to be done on WORKERS cores, for equal times."""
    return {"one core": 2.0 / (1.0 + 1.0 / WORKERS), "all cores": 1.0}


def gains(times: dict[str, float]) -> dict[str, float]:
    """How many times faster than plain each other way is."""
    return {name: times["plain"] / seconds for name, seconds in times.items() if name != "plain"}


def main() -> None:
    """All cases by turns, again and again; the table."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats, steps = (1, 4) if given.quick else (given.repeats or 5, 40)
    cases = CASES[2:3] if given.quick else CASES
    began = record.conditions()
    runs = []
    for repeat in range(repeats):
        runs.append({
            "load_1min": os.getloadavg()[0],
            "asleep": {case.name: asleep(case, steps) for case in cases},
            "at_work": at_work(steps),
        })  # fmt: skip
        print(f"{repeat + 1}/{repeats} done, load {os.getloadavg()[0]:.1f}", flush=True)
    summary = {
        "asleep": {case.name: summarise([run["asleep"][case.name] for run in runs], case) for case in cases},
        "at_work": {
            name: {way: record.summarise([gains(run["at_work"][name])[way] for run in runs]) for way in WAYS_AT_WORK}
            | {"bound": bound}
            for name, bound in bounds_at_work().items()
        },
    }
    show(summary)
    settings = {"num_envs": NUM_ENVS, "workers": WORKERS, "env_s": ENV_S, "at_work_s": AT_WORK_S, "goals": GOALS}
    record.write(
        "samplers_overlap", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs
    )


def summarise(times: list[dict[str, float]], case: Case) -> dict[str, Any]:
    """Over the repeats: seconds of a step in each way, gains over plain, and what the formula says."""
    seconds = {way: record.summarise([found[way] for found in times]) for way in WAYS}
    gained = {way: record.summarise([gains(found)[way] for found in times]) for way in WAYS if way != "plain"}
    formula = {
        "plain_s": ROUND_S * plain_round(case),
        "alternating_s": ROUND_S * alternating_round(case),
        "gain": plain_round(case) / alternating_round(case),
    }
    return {"seconds": seconds, "gain": gained, "formula": formula}


def show(summary: dict[str, Any]) -> None:
    """The tables."""
    rows = []
    for name, found in summary["asleep"].items():
        ms = {way: 1000 * found["seconds"][way]["median"] for way in WAYS}
        rows.append([
            name, ms["plain"], 1000 * found["formula"]["plain_s"], ms["alternating"],
            1000 * found["formula"]["alternating_s"], found["gain"]["alternating"]["median"], found["formula"]["gain"],
            found["gain"]["overlapping"]["median"], found["gain"]["plain, 2 W"]["median"],
        ])  # fmt: skip
    head = [
        "asleep: inference beside environments", "plain ms", "formula", "alternating ms", "formula", "gain", "formula",
        "overlapping", "plain, 2 W",
    ]  # fmt: skip
    print("\n" + record.table(rows, head))
    rows = [
        [
            f"at work on {name}, equal times",
            found["alternating"]["median"],
            found["overlapping"]["median"],
            found["bound"],
        ]
        for name, found in summary["at_work"].items()
    ]
    print("\n" + record.table(rows, ["gain over plain", "alternating", "overlapping", "at most"]))


if __name__ == "__main__":
    main()
