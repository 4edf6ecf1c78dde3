# SPDX-License-Identifier: Apache-2.0
"""Programs that pass something back and forth and compute nothing of use: what the wires of an engine cost, and what
workers cost one another.

    body --params--> store --pull--> workers --put--> channel --get--> body       round after round, for all of them
    workers --ask--> service: server --answer--> workers
    body --params--> store --pull--> workers, which all compute at once, then tell how long it took
    workers --address, number--> workers --answer--> body                             whatever these workers measure

Who serves computes between messages, so that cores fall asleep as they do in a run: waking them is most of what a
message costs. Workers that are processes find their functions here by name.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import psutil

from shoal.engines.clock import BLOCKS, Stopwatch, processor_s, timed, usage
from shoal.engines.system import system

LITTLE = 64
"""bytes"""
WORK_S = 2e-3
"""computed before each message"""
TRAJECTORY, REQUEST = 11, 6
"""arrays of what an actor hands on, and of what it asks with"""
SETTLED = 10
"""rounds that do not count"""
LEAST = 20
"""rounds that count, at least"""
TOLD = 10
"""rounds of a server between two words of them"""


class Round(NamedTuple):
    """What a round takes on a cluster of one node, in seconds: from its beginning to its end, and of processors."""

    wall_s: float
    main_s: float
    agent_s: float
    workers_s: float


def there_and_back(workers: int, there: int, back: int, seconds: float, agent: int | None = None) -> Any:
    """Seconds of a round in which a store's new value goes to all workers and an item comes back from each, beside what
    is computed; of a cluster, whose agent is this process, a `Round`. Run by an engine."""
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

        return timed_rounds(turn, seconds, agent, spins=True)


def follow(_index: int, params: Any, items: Any, back: int) -> NoReturn:
    """A worker that answers every new value."""
    version = 0
    while True:
        _, version = params.pull(at_least=version + 1)
        items.put(parted(back, TRAJECTORY), version)


def asked_and_answered(workers: int, seconds: float, agent: int | None = None) -> Any:
    """Seconds of a round in which a server, a worker itself, answers all others, beside what it computes; of a cluster,
    whose agent is this process, a `Round`. Run by an engine."""
    with system("passing", "learner") as s:
        policy = s.service("OBS", "ACT", "actor", "inference", workers, 1.0)
        told = s.channel("TRAJ", "inference", "learner", 1)
        s.spawn("inference", 1, answer, policy, told)
        s.spawn("actor", workers, ask, policy)
        return timed_rounds(lambda: told.get()[0], seconds, agent, spins=False)


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
        policy.call(parted(LITTLE, REQUEST))


def parted(nbytes: int, arrays: int) -> tuple[np.ndarray, ...]:
    """So many bytes, nearly all in the first of several arrays: each of them costs something of its own."""
    return (np.zeros(max(1, nbytes - arrays + 1), np.uint8), *(np.zeros(1, np.uint8) for _ in range(arrays - 1)))


def beside_one_another(workers: int, seconds: float) -> float:
    """Processor seconds of a piece of work while so many workers compute for so long, all at the same time. Run by an
    engine."""
    with system("crowding", "learner") as s:
        begin = s.store("PARAM", "learner", np.zeros(1))
        spent = s.channel("TRAJ", "actor", "learner", workers)
        ready = s.channel("READY", "actor", "learner", workers)
        s.spawn("actor", workers, compute, begin, ready, spent, seconds)
        ready.get(workers)
        begin.publish(np.zeros(1))
        return float(np.mean(spent.get(workers)))


def one_answer(workers: int, life: Callable, *given: Any) -> Any:
    """What one of some workers tells: each lives `life(index, *given, meeting, number, told)`, where a store for an
    address and one for a number, and a channel, are theirs. Run by an engine."""
    with system("measured", "learner") as s:
        meeting = s.store("PARAM", "learner", "", target="learner")
        number = s.store("PARAM", "learner", 0, target="learner")
        told = s.channel("PARAM", "learner", "learner", workers)
        s.spawn("learner", workers, life, *given, meeting, number, told)
        return told.get()[0]


def compute(_index: int, begin: Any, ready: Any, spent: Any, seconds: float) -> None:
    """A worker that computes once all are there, and tells the median of its pieces."""
    timed(piece, ())
    ready.put(0.0)
    begin.pull(at_least=1)
    watch, found = Stopwatch(), []
    while watch.seconds() < seconds or not found:
        found.append(timed(piece, ())[2])
    spent.put(float(np.median(found)))


def piece() -> float:
    """What an actor's step is made of: small arrays, and Python between them."""
    values, total = np.linspace(0.0, 1.0, 8 * 64), 0.0
    for index in range(100):
        values = np.tanh(values) + 0.1
        total += sum({key: index for key in range(16)}.values())
    return total + float(values[0])


def timed_rounds(turn: Callable[[], int], seconds: float, agent: int | None, *, spins: bool) -> float | Round:
    """What a round takes beside WORK_S of computing, in the median of some stretches: a core that others take for a
    while is no cost of wires. `turn` returns how many rounds it was.

    Args:
      agent: a process whose processor time is asked for, and that of all its children; None for seconds alone.
      spins: this process computes WORK_S, or else one of the children does.
    """
    settled = 0
    while settled < SETTLED:
        settled += turn()
    below = () if agent is None else tuple(child.pid for child in psutil.Process(agent).children(recursive=True))
    blocks, whole = [], Stopwatch()
    while whole.seconds() < seconds or len(blocks) < BLOCKS:
        before, watch, count = used(agent, below), Stopwatch(), 0
        while watch.seconds() < seconds / BLOCKS or count < LEAST / BLOCKS:
            count += turn()
        blocks.append([(after - first) / count for first, after in zip(before, used(agent, below, watch), strict=True)])
    wall, main, theirs, workers = (float(value) for value in np.median(blocks, axis=0))
    if agent is None:
        return wall - WORK_S
    spun = (WORK_S, 0.0) if spins else (0.0, WORK_S)
    return Round(wall - WORK_S, max(0.0, main - spun[0]), max(0.0, theirs), max(0.0, workers - spun[1]))


def used(agent: int | None, below: Sequence[int], watch: Stopwatch | None = None) -> tuple[float, float, float, float]:
    """Seconds by this watch, and processor seconds so far of this process, an agent, and its children."""
    seconds = 0.0 if watch is None else watch.seconds()
    if agent is None:
        return seconds, 0.0, 0.0, 0.0
    return seconds, usage().cpu_s, processor_s(agent), sum(map(processor_s, below))


def spin(seconds: float) -> None:
    """Compute for so long."""
    watch = Stopwatch()
    while watch.seconds() < seconds:
        pass
