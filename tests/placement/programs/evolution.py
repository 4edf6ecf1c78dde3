# SPDX-License-Identifier: Apache-2.0
"""Evolution strategies as OpenAI ran them, on the engines' primitives.

    workers (n) --RETURN: noise index, two returns--> master
        ^                                               |
        +---PARAM--- relay (one a machine) <----PARAM---+

The master publishes params and takes pairs until it has a population's worth, and updates. Workers evaluate antithetic
pairs, one after the other, under the newest params that their machine's relay has. Nobody waits at the end of a
generation: a pair that comes late is thrown away and counted, so that the update is on-policy.

Salimans et al. 2017 (arXiv 1703.03864); openai/evolution-strategies-starter, whose README says that the paper's
scaling experiment ran on a program like it. Left out: statistics of observations, evaluations without noise, and the
0.2 s for which a worker goes on with pairs before it reports them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shoal.engines import phase, system


class Task(NamedTuple):
    """What is evolved."""

    params: Any
    lengths: Callable[[np.random.Generator], Any]
    """of a pair's two episodes, in steps"""
    evaluate: Callable[[Any, int, Any], Any]
    """(params, noise index, lengths) -> what a worker reports of a pair"""
    update: Callable[[Any, list], Any]
    """(params, reports) -> new params"""


class Config(NamedTuple):
    """How much of it, and where."""

    machines: int
    workers: int
    """on each machine"""
    pairs: int
    """that make up a generation"""
    generations: int
    noise_size: int = 250_000_000
    """of the table that all machines hold, from which an index chooses"""
    seed: int = 0


def evolve(config: Config, task: Task, visit: Callable[[Any], None]) -> Any:
    """Run all generations, call `visit` with the params after each, and return the last."""
    params = task.params
    with system("es", "master") as s:
        published = s.store("PARAM", "master", params)
        reports = s.channel("RETURN", "relay", "master", config.pairs, versions=published, max_lag=0)
        s.spawn("relay", config.machines, relay, config, task, published, reports)
        for _ in range(config.generations):
            pairs = reports.get(config.pairs)  # the channel discards what is late
            params = phase("update", task.update, params, pairs)
            published.publish(params)
            visit(params)
    return params


def relay(index, config, task, published, reports):
    """Hand params on within a machine, so that they cross to it once and not once for every worker."""
    params, generation = published.pull()
    with system(f"machine{index}", "relay") as s:
        local = s.store("PARAM", "relay", (params, generation))
        s.spawn("worker", config.workers, work, index, config, task, local, reports)
        while True:
            params, generation = published.pull(at_least=generation + 1)
            local.publish((params, generation))


def work(index, machine, config, task, local, reports):
    """Evaluate pairs for ever. A worker reports as its relay: reports go straight on to the master."""
    rng = np.random.default_rng([config.seed, machine, index])
    room = config.noise_size - np.size(task.params) + 1
    while True:
        (params, generation), _ = local.pull()
        noise, lengths = int(rng.integers(room)), task.lengths(rng)
        reports.put(phase("evaluate", task.evaluate, params, noise, lengths), generation)
