# SPDX-License-Identifier: Apache-2.0
"""Trajectories and params between two nodes of a Ray cluster: the engine ray beside Ray's own object store.

    trajectories   an actor on the node hands over arrays of one size as fast as main, on the head, takes them
    params         main hands out an array of one size again and again; two actors of the node each get every one

Ray's ceiling is what its own actors and object store do with the same arrays in the same places: an actor's method
returns the array and main gets it, with several calls on their way; main puts the array once and both actors get it by
reference. Both take turns in every repeat.
"""

import time
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.cluster_here import two_raylets
from benchmarks.micro.process_workers import produce, tell_versions, trajectory_of
from shoal.engines import make_engine, system
from shoal.engines.cluster.options import ClusterOptions
from shoal.engines.cluster.ray_nodes import RayCluster

MODULE = "benchmarks.throughput.cluster"
SIZES = {"10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
PARAMS = {"37 kB": 9_155, "6.7 MB": 1_687_206}
"""PPO's networks on CartPole and the Nature network on Pong, in numbers of four bytes"""
ON_THE_WAY = 4
READERS = 2
GOAL = 0.7


def trajectories_here(size: int, seconds: float) -> float:
    """Trajectories a second. Run by an engine."""
    with system("cluster", "learner") as s:
        wire = s.channel("TRAJ", "actor", "learner", ON_THE_WAY)
        s.spawn("actor", 1, produce, wire, size)
        for _ in range(2 * ON_THE_WAY):
            wire.get()
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            wire.get()
            count += 1
        return count / (time.perf_counter() - began)


def params_here(numbers: int, seconds: float) -> float:
    """Versions a second that both readers have got. Run by an engine."""
    params = np.zeros(numbers, np.float32)
    with system("cluster", "learner") as s:
        store = s.store("PARAM", "learner", params)
        told = s.channel("TOLD", "actor", "learner", 2 * READERS)
        s.spawn("actor", READERS, tell_versions, store, told)
        told.get(READERS)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            store.publish(params.copy())
            told.get(READERS)
            count += 1
        return count / (time.perf_counter() - began)


class RayPeer:
    """Ray's own actors on the same node."""

    def __init__(self, ray: Any):
        self._ray = ray

        @ray.remote(num_cpus=1)
        class Worker:
            def hand_over(self, size: int) -> Any:
                if getattr(self, "size", None) != size:
                    self.size, self.item = size, tuple(trajectory_of(size))
                return self.item

            def take(self, params: Any) -> int:
                return len(params)

        self._workers = [Worker.remote() for _ in range(READERS)]
        ray.get([worker.take.remote(b"") for worker in self._workers])

    def trajectories(self, size: int, seconds: float) -> float:
        """Trajectories a second."""
        worker = self._workers[0]
        self._ray.get(worker.hand_over.remote(size))
        waiting = [worker.hand_over.remote(size) for _ in range(ON_THE_WAY)]
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self._ray.get(waiting.pop(0))
            waiting.append(worker.hand_over.remote(size))
            count += 1
        rate = count / (time.perf_counter() - began)
        self._ray.get(waiting)
        return rate

    def params(self, numbers: int, seconds: float) -> float:
        """Versions a second that both have got."""
        params = np.zeros(numbers, np.float32)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            where = self._ray.put(params.copy())
            self._ray.get([worker.take.remote(where) for worker in self._workers])
            count += 1
        return count / (time.perf_counter() - began)


def measure(seconds: float, repeats: int) -> dict[str, dict[str, Any]]:
    """By size: both rates, every repeat."""
    found: dict[str, dict[str, list[float]]] = {}
    with two_raylets(cpus=8) as raylets, RayCluster(ClusterOptions(raylets.address)) as cluster:
        import ray

        peer = RayPeer(ray)
        for repeat in range(repeats + 1):  # the first warms both up
            for name, size in SIZES.items():
                ours = make_engine("ray", cluster=cluster).run(trajectories_here, size, seconds)
                keep(found, f"TRAJ {name}", ours, peer.trajectories(size, seconds), repeat)
            for name, numbers in PARAMS.items():
                ours = make_engine("ray", cluster=cluster).run(params_here, numbers, seconds)
                keep(found, f"PARAM {name}", ours, peer.params(numbers, seconds), repeat)
    return {
        name: {
            **{who: record.summarise(rates) for who, rates in both.items()},
            "ratio": record.summarise([a / b for a, b in zip(both["shoal"], both["ray"], strict=True)]),
        }
        for name, both in found.items()
    }


def keep(found: dict[str, dict[str, list[float]]], name: str, ours: float, theirs: float, repeat: int) -> None:
    """Remember a pair, but for the first round."""
    if repeat:
        both = found.setdefault(name, {"shoal": [], "ray": []})
        both["shoal"].append(ours)
        both["ray"].append(theirs)


def main() -> None:
    """Measure, print, keep."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    began = record.conditions()
    found = measure(0.3 if given.quick else 2.0, 1 if given.quick else given.repeats)
    rows = [
        (name, both["shoal"]["median"], both["ray"]["median"], both["ratio"]["median"], both["ratio"]["min"])
        for name, both in found.items()
    ]
    print(record.table(rows, ("messages a second", "shoal", "ray", "ratio", "least")))
    met = {name: both["ratio"]["median"] >= GOAL for name, both in found.items()}
    record.write("cluster_throughput", MODULE, quick=given.quick, began=began, goal=GOAL, met=met, found=found)


if __name__ == "__main__":
    main()
