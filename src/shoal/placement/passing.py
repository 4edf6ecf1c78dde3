# SPDX-License-Identifier: Apache-2.0
"""What it costs that something passes from worker to worker, on engines whose workers are threads or processes.

    body --params--> store --pull--> worker --put--> channel --get--> body     there and back, again and again
    worker --ask--> service --answer--> worker

Nothing is computed, so that what is left is the wires: waking up, copying, the books. Needs no JAX.
"""

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any, NoReturn

import numpy as np
import psutil

from shoal.engines import make_engine, system
from shoal.placement.profile import Passing

ENGINES = ("threads", "processes")
LITTLE, MUCH = 64, 2_000_000
"""bytes"""
SETTLED = 20
"""turns that do not count"""
LEAST = 50
"""turns that count, at least"""


def measure_passing(seconds: float = 0.15) -> dict[str, Passing]:
    """For every engine; `seconds` for each of four loops.

    Check: on threads nothing is copied, so more bytes cost nothing.
    """
    return {engine: passing_on(engine, seconds) for engine in ENGINES}


def passing_on(engine: str, seconds: float) -> Passing:
    """Fixed costs and costs a byte on one engine, from round trips with little and with much on the way."""
    plain, cores = turn_of(engine, there_and_back, LITTLE, LITTLE, seconds)
    heavy_there, _ = turn_of(engine, there_and_back, MUCH, LITTLE, seconds)
    heavy_back, _ = turn_of(engine, there_and_back, LITTLE, MUCH, seconds)
    call, _ = turn_of(engine, asked_and_answered, LITTLE, LITTLE, seconds)
    pull, put = (max(0.0, heavy - plain) / (MUCH - LITTLE) for heavy in (heavy_there, heavy_back))
    return Passing(put=(plain / 2, put), pull=(plain / 2, pull), call=(call, put), cores=cores)


def turn_of(engine: str, loop: Callable, there: int, back: int, seconds: float) -> tuple[float, float]:
    """(seconds of one turn, cores kept busy), of a loop with so many bytes each way."""
    made = make_engine(engine)

    def processor_s() -> float:
        children = sum(sum(psutil.Process(one["pid"]).cpu_times()[:2]) for one in made.pids)
        return process_time() + children

    return made.run(loop, there, back, seconds, processor_s)


def there_and_back(there: int, back: int, seconds: float, processor_s: Callable[[], float]) -> tuple[float, float]:
    """A store's new value goes there, an item of a channel comes back. Run by an engine."""
    value = np.zeros(there, np.uint8)
    with system("passing", "learner") as s:
        params = s.store("PARAM", "learner", value)
        items = s.channel("TRAJ", "actor", "learner", 1, versions=params)
        s.spawn("actor", 1, follow, params, items, back)

        def turn() -> None:
            params.publish(value.copy())
            items.get()

        return turns(turn, seconds, processor_s)


def follow(_index: int, params: Any, items: Any, back: int) -> NoReturn:
    """A worker that answers every new value."""
    version = 0
    while True:
        _, version = params.pull(at_least=version + 1)
        items.put(np.zeros(back, np.uint8), version)


def asked_and_answered(there: int, back: int, seconds: float, processor_s: Callable[[], float]) -> tuple[float, float]:
    """A service answers one client. Run by an engine."""
    with system("passing", "inference") as s:
        policy = s.service("OBS", "ACT", "actor", "inference", 1, 1.0)
        s.spawn("actor", 1, ask, policy, there)
        answer = np.zeros(back, np.uint8)

        def turn() -> None:
            requests = policy.take()
            policy.reply(requests, [answer for _ in requests])

        return turns(turn, seconds, processor_s)


def ask(_index: int, policy: Any, there: int) -> NoReturn:
    """A worker that asks again and again."""
    while True:
        policy.call(np.zeros(there, np.uint8))


def turns(turn: Callable[[], None], seconds: float, processor_s: Callable[[], float]) -> tuple[float, float]:
    """(seconds of one turn, cores kept busy)."""
    for _ in range(SETTLED):
        turn()
    count, busy = 0, processor_s()
    began = now = perf_counter()
    while now - began < seconds or count < LEAST:
        turn()
        count += 1
        now = perf_counter()
    return (now - began) / count, (processor_s() - busy) / (now - began)
