# SPDX-License-Identifier: Apache-2.0
"""IMPALA on a Ray cluster of two raylets beside RLlib's: equal actors, environments, unrolls, batches and networks.

Both have a head without room for actors, where the learner is, and a node with all actors; the same Ray, each with the
packages of its own Python. Steps a second are those trained on. They take turns in every repeat, after a warm-up of
their own.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.cluster_here import two_raylets
from benchmarks.peers.install import python_of
from benchmarks.record import ROOT
from benchmarks.scaling.cluster import ENDLESS, ENVIRONMENTS, run_for
from shoal import envs
from shoal.architectures import presets
from shoal.engines.cluster.options import ClusterOptions
from shoal.engines.cluster.ray_nodes import RayCluster

MODULE = "benchmarks.peers.rllib_impala"
SCRIPT = Path(__file__).parent / "rllib_run.py"
ACTORS, UNROLL = (2, 8), 64
BATCH = 2
"""trajectories"""
ENVS = {"CartPole": 8, "asleep 5 ms": 1}
"""environments an actor"""
GOAL = 3.0
TIMEOUT_S = 240


def ours(env: str, actors: int, num_envs: int, seconds: float) -> float:
    """shoal's steps a second, in a process of its own: Ray remembers the token of the first cluster it joins."""
    words = ["--only", env, actors, num_envs, seconds]
    ran = subprocess.run(
        [sys.executable, "-m", MODULE, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT_S + seconds
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    return float(ran.stdout.strip().splitlines()[-1])


def only(env: str, actors: int, num_envs: int, seconds: float) -> float:
    """shoal's steps a second."""
    preset = presets.preset("impala", envs.resolve(env).spec)
    config = dataclasses.replace(
        preset, num_actors=actors, envs_per_actor=num_envs, unroll_length=UNROLL, batch_trajectories=BATCH,
        queue_slots=actors, env_steps=ENDLESS, anneal_learning_rate=False,
    )  # fmt: skip
    with two_raylets(cpus=16) as raylets, RayCluster(ClusterOptions(raylets.address)) as cluster:
        return run_for("impala", env, config, cluster, seconds)["steps_per_s"]


def theirs(python: Path, env: str, actors: int, num_envs: int, seconds: float) -> dict[str, float]:
    """RLlib's, sampled and trained on."""
    with two_raylets(cpus=16, python=python) as raylets:
        words = [raylets.address, env, actors, num_envs, UNROLL, BATCH * UNROLL * num_envs, seconds]
        ran = subprocess.run(
            [str(python), str(SCRIPT), *map(str, words)], env={**raylets.env, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=TIMEOUT_S + seconds,
        )  # fmt: skip
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
    return json.loads(ran.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure, print, keep."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        env, actors, num_envs, seconds = given.only
        print(only(env, int(actors), int(num_envs), float(seconds)))
        return
    python = python_of("rllib")
    if python is None:
        raise SystemExit("RLlib is not installed: python -m benchmarks.peers.install rllib")
    repeats, seconds, counts = (1, 1.0, ACTORS[:1]) if given.quick else (given.repeats, given.seconds, ACTORS)
    began = record.conditions()
    found: dict[tuple[str, int], dict[str, list[Any]]] = {}
    for _ in range(repeats):
        for label, env in ENVIRONMENTS.items():
            for actors in counts:
                both = found.setdefault((label, actors), {"shoal": [], "rllib": [], "rllib_sampled": []})
                both["shoal"].append(ours(env, actors, ENVS[label], seconds))
                peer = theirs(python, env, actors, ENVS[label], seconds)
                both["rllib"].append(peer["trained_per_s"])
                both["rllib_sampled"].append(peer["sampled_per_s"])
                print(label, actors, {name: rates[-1] for name, rates in both.items()}, flush=True)
    rows, table = [], []
    for (label, actors), both in found.items():
        ratio = record.summarise([a / b for a, b in zip(both["shoal"], both["rllib"], strict=True)])
        rows.append({
            "environment": label, "actors": actors, "ratio": ratio,
            **{name: record.summarise(rates) for name, rates in both.items()},
        })  # fmt: skip
        table.append((label, actors, rows[-1]["shoal"]["median"], rows[-1]["rllib"]["median"], ratio["median"]))
    print(record.table(table, ("IMPALA", "actors", "shoal steps/s", "RLlib steps/s", "ratio")))
    versions = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True).stdout.split()
    kept = [v for v in versions if v.startswith(("ray==", "torch==", "gymnasium==", "numpy=="))]
    record.write("peers_rllib_impala", MODULE, quick=given.quick, began=began, goal=GOAL, peer=kept, rows=rows)


if __name__ == "__main__":
    main()
