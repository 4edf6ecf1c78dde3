# SPDX-License-Identifier: Apache-2.0
"""Each sampler's environment steps a second beside the environment's own limit, on CartPole and Pong.

The limit is the environment alone, stepped with the untrained policy's actions: in one process, and in workers that do
nothing else, whichever is quicker. Samplers act under frozen params with the network of the preset. `async` has nothing
to overlap with there: beside it, a2c in step and one batch ahead are trained, and their steps a second counted.
"""

import dataclasses
import os
import time
from typing import Any

import numpy as np

from benchmarks import alone, record
from shoal import envs
from shoal.actors.samplers import start
from shoal.architectures import a2c, presets
from shoal.architectures.assemble import environment_for, make_parts, preloads
from shoal.engines import make_engine
from shoal.envs.pool import in_workers

MODULE = "benchmarks.throughput.samplers"
ENVS = {"CartPole-v1": 64, "ale:pong": 16}
"""environments of the one actor"""
WORKERS = 2
WAYS: dict[str, dict[str, Any]] = {
    "serial": {"sampler": "serial"},
    "parallel": {"sampler": "parallel", "env_workers": WORKERS},
    "central": {"sampler": "central", "env_workers": WORKERS},
    "central, first half": {"sampler": "central", "env_workers": WORKERS, "inference_batch": -1},
    "alternating": {"sampler": "alternating", "env_workers": 1},
}
"""alternating has a worker in each of its two groups: as many processes as the others"""
TRAINED: dict[str, dict[str, Any]] = {
    "a2c, in step": {"sampler": "serial"},
    "a2c, async": {"sampler": "async"},
    "a2c, async over workers": {"sampler": "async", "env_workers": WORKERS},
}
WARM_UP_UPDATES = 3


def config_of(env: str, fields: dict[str, Any]) -> Any:
    """The preset, with one actor."""
    num_envs = ENVS[env]
    if fields.get("inference_batch") == -1:
        fields = {**fields, "inference_batch": num_envs // 2}
    preset = presets.preset("a2c", envs.resolve(env).spec)
    return dataclasses.replace(preset, num_actors=1, envs_per_actor=num_envs, **fields)


def parts_of(env: str, config: Any) -> Any:
    """Real parts."""
    return make_parts(a2c, config, environment_for(config, envs.resolve(env)), "auto")


def limits(env: str, seconds: float) -> dict[str, float]:
    """Steps a second of the environment alone."""
    config = config_of(env, {})
    parts, n = parts_of(env, config), ENVS[env]
    found = {"one process": n / alone.env_alone(parts, n, seconds)["median"]}
    pool = in_workers(environment_for(config, envs.resolve(env)), WORKERS, config.step_timeout)
    in_pool = parts._replace(make_env=pool)
    found[f"{WORKERS} workers"] = n / alone.env_alone(in_pool, n, seconds)["median"]
    return found


def sampled(env: str, fields: dict[str, Any], seconds: float) -> float:
    """Steps a second of a sampler under frozen params; only valid rows count."""
    config = config_of(env, fields)
    parts = parts_of(env, config)
    params = alone.first_params(parts)
    sampler = start(0, config, parts)
    length = config.unroll_length
    try:
        for _ in range(2):
            sampler.unroll(params, 0, length)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            count += int(np.count_nonzero(sampler.unroll(params, 0, length).valid))
        return count / (time.perf_counter() - began)
    finally:
        sampler.close()


def trained(env: str, fields: dict[str, Any], seconds: float) -> float:
    """Steps a second of training on threads, after some updates."""
    config = dataclasses.replace(config_of(env, fields), env_steps=10**9)
    parts = parts_of(env, config)
    engine = make_engine("threads")
    engine.preload = preloads(parts.agent, a2c, config)
    marks: list[tuple[float, int]] = []

    def visit(state: Any, _batch: list, _metrics: dict[str, float]) -> Any:
        marks.append((time.perf_counter(), state.env_steps))
        if len(marks) > WARM_UP_UPDATES + 1 and marks[-1][0] - marks[WARM_UP_UPDATES][0] > seconds:
            engine.stop("measured")
        return state

    engine.run(a2c.run, config, parts, None, visit)
    (began, before), (ended, after) = marks[WARM_UP_UPDATES], marks[-1]
    return (after - before) / (ended - began)


def main() -> None:
    """Limits and samplers by turns, again and again; the table."""
    parser = record.arguments(MODULE, __doc__)
    parser.add_argument("--repeats", type=int, default=None, help="default 5")
    given = parser.parse_args()
    repeats, seconds = (1, 0.2) if given.quick else (given.repeats or 5, 5.0)
    began = record.conditions()
    runs = []
    for repeat in range(repeats):
        runs.append({"load_1min": os.getloadavg()[0], **{env: once(env, seconds) for env in ENVS}})
        print(f"{repeat + 1}/{repeats} done, load {os.getloadavg()[0]:.1f}", flush=True)
    summary = {env: summarise([run[env] for run in runs]) for env in ENVS}
    for env, found in summary.items():
        rows = [[name, one["steps_per_s"]["median"], one["of_limit"]["median"]] for name, one in found.items()]
        print("\n" + record.table(rows, [f"{env} x{ENVS[env]}", "steps/s", "of the limit"]))
    settings = {"envs": ENVS, "workers": WORKERS, "configs": {env: config_of(env, {}) for env in ENVS}}
    kept = {"settings": settings, "summary": summary, "runs": runs}
    record.write("samplers_throughput", MODULE, quick=given.quick, began=began, **kept)


def once(env: str, seconds: float) -> dict[str, dict[str, float]]:
    """Steps a second of everything, on one environment."""
    return {
        "limits": limits(env, seconds),
        "samplers": {name: sampled(env, fields, seconds) for name, fields in WAYS.items()},
        "training": {name: trained(env, fields, seconds) for name, fields in TRAINED.items()},
    }


def summarise(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Over the repeats: steps a second, and as a share of the quicker limit of the same round."""
    found = {}
    for kind, prefix in (("limits", "environment alone, "), ("samplers", ""), ("training", "")):
        for name in runs[0][kind]:
            found[prefix + name] = {
                "steps_per_s": record.summarise([run[kind][name] for run in runs]),
                "of_limit": record.summarise([run[kind][name] / max(run["limits"].values()) for run in runs]),
            }
    return found


if __name__ == "__main__":
    main()
