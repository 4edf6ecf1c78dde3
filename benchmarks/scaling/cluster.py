# SPDX-License-Identifier: Apache-2.0
"""PPO and IMPALA on a Ray cluster of two raylets with 2, 8 and 32 actors.

CartPole wants cores from the first actor on; an environment that sleeps 5 ms wants hardly any. Efficiency is steps a
second against those of two actors, by the number of actors. PPO runs in lock-step, where actors wait for its updates,
and with its sampler beside its learner, where they do not. All layouts take turns in every repeat.
"""

import dataclasses
from typing import Any

from benchmarks import record
from benchmarks.cluster_here import two_raylets
from shoal import envs
from shoal.architectures import presets, registry
from shoal.architectures.assemble import make_parts, preloads
from shoal.engines import make_engine
from shoal.engines.cluster.options import ClusterOptions
from shoal.engines.cluster.ray_nodes import RayCluster
from shoal.placement.trial import Window

MODULE = "benchmarks.scaling.cluster"
ENVIRONMENTS = {"CartPole": "CartPole-v1", "asleep 5 ms": "benchmarks.peers.sleeping:Sleeping"}
ARCHITECTURES = ("ppo", "impala")
LAYOUTS = (("ppo", "serial"), ("ppo", "async"), ("impala", "serial"))
"""architecture and sampler"""
ACTORS = (2, 8, 32)
GOAL = 0.9
ENDLESS = 10**12


def config_of(architecture: str, env: str, actors: int, sampler: str = "serial") -> Any:
    """One environment an actor where they sleep, eight where they compute."""
    spec = envs.resolve(env).spec
    fields: dict[str, Any] = {"num_actors": actors, "env_steps": ENDLESS, "anneal_learning_rate": False}
    if env != "CartPole-v1":
        fields |= {"envs_per_actor": 1, "unroll_length": 32}
    if architecture == "impala":
        fields |= {"batch_trajectories": max(2, actors // 2), "queue_slots": actors}
    return dataclasses.replace(presets.preset(architecture, spec), sampler=sampler, **fields)


def run_for(architecture: str, env: str, config: Any, cluster: Any, seconds: float) -> dict[str, float]:
    """Steps a second and mean lag of one run, from when it has settled."""
    module = registry.load(architecture)
    parts = make_parts(module, config, envs.resolve(env), "auto")
    engine = make_engine("ray", cluster=cluster)
    engine.preload = preloads(parts.agent, module, config)
    window = Window(engine, config, seconds=seconds, updates=10**9)
    engine.run(module.run, config, parts, None, window.visit)
    first, last = window.first, window.last
    assert first is not None and last is not None, "it ended before it was measured"
    wall = last.now - first.now
    return {
        "steps_per_s": (last.env_steps - first.env_steps) / wall,
        "main_cores": (last.usage.cpu_s - first.usage.cpu_s) / wall,
        "lag": sum(window.lags) / max(1, len(window.lags)),
    }


def measure(seconds: float, repeats: int, counts: tuple[int, ...]) -> dict[tuple[str, str, str, int], list[dict]]:
    """By environment, architecture, sampler and actors: every repeat."""
    found: dict[tuple[str, str, str, int], list[dict]] = {}
    with two_raylets(cpus=64) as raylets, RayCluster(ClusterOptions(raylets.address)) as cluster:
        for _ in range(repeats):
            for label, env in ENVIRONMENTS.items():
                for architecture, sampler in LAYOUTS:
                    for actors in counts:
                        config = config_of(architecture, env, actors, sampler)
                        run = run_for(architecture, env, config, cluster, seconds)
                        found.setdefault((label, architecture, sampler, actors), []).append(run)
                        print(label, architecture, sampler, actors, run, flush=True)
    return found


def main() -> None:
    """Measure, print, keep."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    began = record.conditions()
    found = measure(*((0.5, 1, ACTORS[:2]) if given.quick else (given.seconds, given.repeats, ACTORS)))
    rows, table = [], []
    for (label, architecture, sampler, actors), runs in found.items():
        rates = record.summarise([run["steps_per_s"] for run in runs])
        base = record.summarise([run["steps_per_s"] for run in found[label, architecture, sampler, ACTORS[0]]])
        efficiency = rates["median"] / base["median"] / (actors / ACTORS[0])
        rows.append({
            "environment": label, "architecture": architecture, "sampler": sampler, "actors": actors,
            "steps_per_s": rates, "lag": [run["lag"] for run in runs], "efficiency": efficiency,
        })  # fmt: skip
        table.append((f"{architecture} {sampler} {label}", actors, rates["median"], efficiency))
    print(record.table(table, ("layout", "actors", "steps/s", "efficiency")))
    record.write("cluster_scaling", MODULE, quick=given.quick, began=began, goal=GOAL, rows=rows)


if __name__ == "__main__":
    main()
