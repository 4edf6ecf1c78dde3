# SPDX-License-Identifier: Apache-2.0
"""What it costs that something passes from worker to worker, on engines whose workers are threads or processes.

    body --params--> store --pull--> workers --put--> channel --get--> body       round after round, for all of them
    workers --ask--> service: server --answer--> workers

A round of several workers takes what waking up takes, once, and the turns that each message costs in the process which
keeps the wires: these are what a round of four takes longer than one of a single worker. Who serves computes between
messages, so that cores fall asleep as they do in a run: waking them is most of what a message costs. Needs no JAX.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NoReturn

import numpy as np

from shoal.engines import make_engine, system
from shoal.placement.profile import Passing

ENGINES = ("threads", "processes")
LITTLE, MUCH = 64, 2_000_000
"""bytes"""
SEVERAL = 4
"""workers"""
WORK_S = 2e-3
"""computed before each message"""
SETTLED = 10
"""rounds that do not count"""
LEAST = 20
"""rounds that count, at least"""
TOLD = 10
"""rounds of a server between two words of them"""


def measure_passing(seconds: float = 0.15) -> dict[str, Passing]:
    """For every engine; `seconds` for each of six loops.

    Check: on threads nothing is copied, so more bytes cost nothing.
    """
    return {engine: passing_on(engine, seconds) for engine in ENGINES}


def passing_on(engine: str, seconds: float) -> Passing:
    """What waking, turns and bytes cost on one engine."""

    def measured(loop: Callable, *args: int) -> float:
        return max(0.0, make_engine(engine).run(loop, *args, seconds))

    one, several = (measured(there_and_back, workers, LITTLE, LITTLE) for workers in (1, SEVERAL))
    asked, asked_by_several = (measured(asked_and_answered, workers) for workers in (1, SEVERAL))
    there, back = measured(there_and_back, 1, MUCH, LITTLE), measured(there_and_back, 1, LITTLE, MUCH)
    wake, turn = apart(one, several)
    call_wake, call_turn = apart(asked, asked_by_several)
    return Passing(
        wake_s=wake / 2, turn_s=turn / 2, call_wake_s=call_wake / 2, call_turn_s=call_turn / 2,
        pull_byte_s=max(0.0, there - one) / MUCH, put_byte_s=max(0.0, back - one) / MUCH,
    )  # fmt: skip


def apart(one: float, several: float) -> tuple[float, float]:
    """(what a round takes once, what it takes for each worker) of rounds of one and of several workers.

    Check: they add up to the round of one.
    """
    turn = min(one, max(0.0, several - one) / (SEVERAL - 1))
    return one - turn, turn


def there_and_back(workers: int, there: int, back: int, seconds: float) -> float:
    """Seconds of a round in which a store's new value goes to all workers and an item comes back from each, beside what
    is computed. Run by an engine."""
    value = np.zeros(there, np.uint8)
    with system("passing", "learner") as s:
        params = s.store("PARAM", "learner", value)
        items = s.channel("TRAJ", "actor", "learner", workers, versions=params)
        s.spawn("actor", workers, follow, params, items, back)

        def turn() -> int:
            spin(WORK_S)
            params.publish(value.copy())
            items.get(workers)
            return 1

        return round_s(turn, seconds) - WORK_S


def follow(_index: int, params: Any, items: Any, back: int) -> NoReturn:
    """A worker that answers every new value."""
    version = 0
    while True:
        _, version = params.pull(at_least=version + 1)
        items.put(np.zeros(back, np.uint8), version)


def asked_and_answered(workers: int, seconds: float) -> float:
    """Seconds of a round in which a server, a worker itself, answers all others, beside what it computes. Run by an
    engine."""
    with system("passing", "learner") as s:
        policy = s.service("OBS", "ACT", "actor", "inference", workers, 1.0)
        told = s.channel("TRAJ", "inference", "learner", 1)
        s.spawn("inference", 1, answer, policy, told)
        s.spawn("actor", workers, ask, policy)
        return round_s(lambda: told.get()[0], seconds) - WORK_S


def answer(_index: int, policy: Any, told: Any) -> NoReturn:
    """A server that tells of its rounds now and then."""
    while True:
        for _ in range(TOLD):
            requests = policy.take()
            spin(WORK_S)
            policy.reply(requests, [np.zeros(LITTLE, np.uint8) for _ in requests])
        told.put(TOLD)


def ask(_index: int, policy: Any) -> NoReturn:
    """A worker that asks again and again."""
    while True:
        policy.call(np.zeros(LITTLE, np.uint8))


def round_s(turn: Callable[[], int], seconds: float) -> float:
    """Seconds of a round; `turn` returns how many it was."""
    settled = count = 0
    while settled < SETTLED:
        settled += turn()
    began = now = perf_counter()
    while now - began < seconds or count < LEAST:
        count += turn()
        now = perf_counter()
    return (now - began) / count


def spin(seconds: float) -> None:
    """Compute for so long."""
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass
