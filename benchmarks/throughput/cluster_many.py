# SPDX-License-Identifier: Apache-2.0
"""What a trajectory costs the main process where many actors of a node hand them over: the engine ray, and processes.

Each actor pulls params, sleeps and hands over 3 kB, again and again; main takes eight at a time and publishes.
Counted are trajectories a second, processor time of the main process for each (learning and acting cost nothing here),
and on the cluster the messages in which they came.
"""

import time
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.cluster_here import two_raylets
from benchmarks.micro.process_workers import hand_over_asleep
from shoal.engines import make_engine, system
from shoal.engines.cluster.options import ClusterOptions
from shoal.engines.cluster.ray_nodes import RayCluster

MODULE = "benchmarks.throughput.cluster_many"
ACTORS = (4, 16, 64)
SLEEPS_S = (0.05, 0.005)
"""the shorter one keeps both cores busy"""
BATCH = 8
PARAMS = 9_155
"""numbers: PPO's networks on CartPole"""


def trajectories(actors: int, sleep_s: float, seconds: float, heard: Any) -> dict[str, float]:
    """Run by an engine. `heard()` is the number of messages that main has got."""
    params = np.zeros(PARAMS, np.float32)
    with system("many", "learner") as s:
        store = s.store("PARAM", "learner", params)
        wire = s.channel("TRAJ", "actor", "learner", 2 * actors, versions=store)
        s.spawn("actor", actors, hand_over_asleep, store, wire, sleep_s)
        wire.get(3 * actors)
        count, messages, began, spent = 0, heard(), time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            wire.get(BATCH)
            store.publish(params.copy())
            count += BATCH
        wall, spent = time.perf_counter() - began, time.process_time() - spent
        return {"per_s": count / wall, "main_us": spent / count * 1e6, "messages": (heard() - messages) / count}


def measure(seconds: float, repeats: int, actors: tuple[int, ...]) -> dict[tuple[str, int, float], list[dict]]:
    """By engine, actors and sleep: every repeat."""
    found: dict[tuple[str, int, float], list[dict]] = {}
    with two_raylets(cpus=128) as raylets, RayCluster(ClusterOptions(raylets.address)) as cluster:
        nodes = cluster.fleet.nodes.values()
        engines = {
            "ray": (lambda: make_engine("ray", cluster=cluster), lambda: sum(n.talk.received for n in nodes)),
            "processes": (lambda: make_engine("processes"), lambda: 0),
        }
        for _ in range(repeats):
            for count in actors:
                for sleep_s in SLEEPS_S:
                    for name, (make, heard) in engines.items():
                        run = make().run(trajectories, count, sleep_s, seconds, heard)
                        found.setdefault((name, count, sleep_s), []).append(run)
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    began = record.conditions()
    found = measure(*((0.3, 1, ACTORS[:1]) if given.quick else (3.0, given.repeats, ACTORS)))
    rows = [
        {"engine": engine, "actors": actors, "sleep_s": sleep_s}
        | {name: record.summarise([run[name] for run in runs]) for name in runs[0]}
        for (engine, actors, sleep_s), runs in found.items()
    ]
    columns = ("per_s", "main_us", "messages")
    table = [(f"{r['engine']} {r['sleep_s']}", r["actors"], *(r[name]["median"] for name in columns)) for r in rows]
    print(record.table(table, ("engine, asleep s", "actors", "trajectories/s", "us of main", "messages each")))
    record.write("cluster_many", MODULE, quick=given.quick, began=began, rows=rows)


if __name__ == "__main__":
    main()
