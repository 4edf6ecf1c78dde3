# SPDX-License-Identifier: Apache-2.0
"""Programs that pass something back and forth and compute nothing of use: what the wires of an engine cost.

    body --params--> store --pull--> workers --put--> channel --get--> body       round after round, for all of them
    workers --ask--> service: server --answer--> workers

Who serves computes between messages, so that cores fall asleep as they do in a run: waking them is most of what a
message costs. Workers that are processes find their functions here by name.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from shoal.engines.clock import Stopwatch
from shoal.engines.system import system

LITTLE = 64
"""bytes"""
WORK_S = 2e-3
"""computed before each message"""
SETTLED = 10
"""rounds that do not count"""
LEAST = 20
"""rounds that count, at least"""
TOLD = 10
"""rounds of a server between two words of them"""


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
    watch = Stopwatch()
    while (spent := watch.seconds()) < seconds or count < LEAST:
        count += turn()
    return spent / count


def spin(seconds: float) -> None:
    """Compute for so long."""
    watch = Stopwatch()
    while watch.seconds() < seconds:
        pass
