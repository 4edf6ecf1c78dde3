# SPDX-License-Identifier: Apache-2.0
"""Two devices of one process, or two processes that sample and sum their gradients: which pays, over the batch?

Both are synchronous data parallelism over the same PPO: two learners, two actors, the same samples and steps. With
devices, one process gathers all samples and shares each minibatch out (RLlib's LocalMultiGPU). With processes, samples
stay with who made them and only gradients cross, in every step (its AllReduce). One learner on one device is the
measure of both. Rates are those of a whole run but its first row of metrics, by which everything is compiled. The
order of who runs when is turned in every repeat.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks import processes, record
from shoal.networks import mlp
from shoal.records.metrics import read_rows

MODULE = "benchmarks.scaling.reduction"
ENV = "CartPole-v1"
UNROLL, ACTORS = 128, 2
WAYS: dict[str, dict[str, Any]] = {
    "one": {"learners": 1},
    "devices": {"learners": 2, "learner_devices": 2},
    "processes": {"learners": 2, "learner_processes": 2},
}
SHARED = ("devices", "processes")
"""ways to share the work, beside one learner that has it all"""
NETWORKS = {"64-64": "mlp", "512-512": f"{MODULE}:Wide"}
ROUNDS = {"64-64": {1: 80, 4: 60, 16: 40, 64: 20}, "512-512": {4: 16, 16: 8}}
"""batches of a run, by network and environments of an actor"""


class Wide(mlp.Mlp):
    """Towers of 512-512, so that gradients are 2 MiB and not 37 KiB."""

    def __init__(self, spec: Any, key: jax.Array):
        sizes, policy_key, value_key = (spec.obs.shape[0], 512, 512), *jax.random.split(key)
        self.policy = mlp.orthogonal_layers((*sizes, spec.action.head_size), 0.01, policy_key)
        self.value = mlp.orthogonal_layers((*sizes, 1), 1.0, value_key)


def run(way: str, network: str, envs_per_actor: int, rounds: int, seed: int) -> dict[str, Any]:
    """One `shoal train ppo` from the command line."""
    fields = {
        "num_actors": ACTORS, "envs_per_actor": envs_per_actor, "unroll_length": UNROLL, "epochs": 4, "minibatches": 4,
        "env_steps": ACTORS * envs_per_actor * UNROLL * rounds, "seed": seed, **WAYS[way],
    }  # fmt: skip
    flags = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shoal", "train", "ppo", "--env", ENV, "--network", NETWORKS[network]]
        command += [*flags, "--engine", "processes", "--run-dir", f"{folder}/run"]
        process = processes.run(command, env={"JAX_PLATFORMS": "cpu"})
        rows = read_rows(Path(folder) / "run" / "metrics.jsonl")
    first, last = rows[0], rows[-1]
    rate = (last["env_steps"] - first["env_steps"]) / (last["wall_s"] - first["wall_s"])
    found = {"steps_per_s": rate, "updates": last["updates"], "return_at_end": last.get("episode_return_mean")}
    return found | process.facts()


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each network and batch the rate of one learner, and how many times as fast both ways are, by repeats."""
    found = []
    for network, envs in dict.fromkeys((run["network"], run["envs_per_actor"]) for run in runs):
        of = {
            way: {run["repeat"]: run["steps_per_s"] for run in runs
                  if (run["network"], run["envs_per_actor"], run["way"]) == (network, envs, way)}
            for way in WAYS
        }  # fmt: skip
        gains = {
            way: [rate / of["one"][repeat] for repeat, rate in of[way].items()] for way in ("devices", "processes")
        }
        found.append({
            "network": network,
            "batch": ACTORS * envs * UNROLL,
            "one": record.summarise(list(of["one"].values())),
            **{way: record.summarise(values) for way, values in gains.items()},
        })  # fmt: skip
    return found


def main() -> None:
    """Turns, table, file."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats = given.repeats or (1 if given.quick else 5)
    cells = [(network, envs, rounds) for network, of in ROUNDS.items() for envs, rounds in of.items()]
    cells = [("64-64", 1, 8)] if given.quick else cells
    began, runs = record.conditions(), []
    for repeat in range(repeats):
        turned = list(WAYS)[repeat % len(WAYS) :] + list(WAYS)[: repeat % len(WAYS)]
        for network, envs, rounds in cells:
            for way in turned:
                found = run(way, network, envs, rounds, repeat)
                runs.append({"repeat": repeat, "way": way, "network": network, "envs_per_actor": envs, **found})
                print(f"{repeat + 1}/{repeats} {network} x{envs} {way}: {found['steps_per_s']:,.0f}", flush=True)
    summary = summarise(runs)
    rows = [
        [one["network"], one["batch"], one["one"]["median"],
         *(one[way][what] for way in SHARED for what in ("median", "min", "max"))]
        for one in summary
    ]  # fmt: skip
    head = ["network", "batch", "one: steps/s", "devices: times", "least", "most", "processes: times", "least", "most"]
    print("\n" + record.table(rows, head))
    settings = {"env": ENV, "actors": ACTORS, "unroll_length": UNROLL, "ways": WAYS, "rounds": ROUNDS}
    record.write(
        "scaling_reduction", MODULE, quick=given.quick, began=began, settings=settings, summary=summary, runs=runs
    )


if __name__ == "__main__":
    main()
