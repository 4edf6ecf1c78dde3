# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: every benchmark with tiny sizes, to show that it works; with --full, as it is published."""

import argparse
import subprocess
import sys
import time

from benchmarks.peers.install import PEERS, python_of
from benchmarks.record import ROOT

MODULES = (
    "benchmarks.micro.startup",
    "benchmarks.micro.overhead",
    "benchmarks.micro.processes",
    "benchmarks.micro.simulated",
    "benchmarks.scaling.slow_actor",
    "benchmarks.scaling.env_workers",
    "benchmarks.scaling.a3c_speedup",
    "benchmarks.scaling.samplers",
    "benchmarks.scaling.drop_slowest",
    "benchmarks.scaling.reduction",
    "benchmarks.scaling.predicted",
    "benchmarks.scaling.train_auto",
    "benchmarks.learning.forced_lag",
    "benchmarks.learning.accept",
    "benchmarks.learning.processes",
    "benchmarks.learning.memory",
    "benchmarks.learning.forms",
    "benchmarks.learning.on_device",
    "benchmarks.learning.scaling",
    "benchmarks.learning.replay_scaling",
    "benchmarks.throughput.cluster",
    "benchmarks.throughput.cluster_many",
    "benchmarks.scaling.cluster",
    "benchmarks.throughput.pong",
    "benchmarks.throughput.samplers",
    "benchmarks.throughput.replay",
    "benchmarks.throughput.apex_pong",
    "benchmarks.peers.cartpole_ppo",
    "benchmarks.peers.cartpole_dqn",
    "benchmarks.peers.on_device_ppo",
)


def missing_peer(module: str) -> bool:
    """Whether a benchmark has nobody to run beside."""
    if module == "benchmarks.peers.on_device_ppo":
        return not (PEERS / "purejaxrl").exists()
    return module.startswith("benchmarks.peers") and python_of("stable-baselines3") is None


def main() -> None:
    """Run them one after the other; a benchmark that fails doesn't keep the others from running."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="full sizes, results into benchmarks/results (about an hour)"
    )
    given = parser.parse_args()
    failed = []
    for module in MODULES:
        if missing_peer(module):
            print(f"== {module}: skipped, its peer is not installed: make bench-peers")
            continue
        print(f"== {module}", flush=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", module, *([] if given.full else ["--quick"])]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(module)
        print(f"   {time.perf_counter() - began:.0f} s\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
