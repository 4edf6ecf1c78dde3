# SPDX-License-Identifier: Apache-2.0
"""Run folders made up for tests: the files a finished run leaves, with known figures."""

from pathlib import Path
from typing import Any

from shoal.records.flow import FlowRecord
from shoal.records.metrics import MetricsWriter
from shoal.records.run_dir import RunDir

FLOWS = {
    "ppo": "TRAJ actor>learner, PARAM learner>actor",
    "pg": "GRAD actor>learner, PARAM learner>actor",
    "a3c": "GRAD actor>parameter_server, PARAM parameter_server>actor",
    "async": "TRAJ actor>learner, PARAM learner>actor, GRAD learner>parameter_server, PARAM parameter_server>learner",
    "seed": "OBS actor>inference, ACT inference>actor, TRAJ inference>learner, PARAM learner>inference",
    "dqn": "TRANS actor>replay, BATCH replay>learner, PARAM learner>actor",
    "gorila": "TRANS actor>replay, BATCH replay>learner, GRAD learner>parameter_server, "
    "PARAM parameter_server>actor, PARAM parameter_server>learner",
    "apex": "TRANS actor>replay, BATCH replay>learner, PRIO learner>replay, PARAM learner>actor",
    "es": "RETURN actor>learner, PARAM learner>actor, RETURN actor>actor",
    "alphazero": "GAME actor>replay, BATCH replay>learner, PARAM learner>inference, OBS actor>inference, "
    "ACT inference>actor, GAME evaluator>learner, PARAM learner>evaluator",
    "pbt": "TRAJ actor>learner, PARAM learner>actor, FITNESS learner>population, WEIGHTS population>learner, "
    "WEIGHTS learner>learner",
    "ftw": "TRAJ arena>learner, PARAM learner>arena, FITNESS arena>population, WEIGHTS population>learner",
    "rapid": "OBS actor>inference, ACT inference>actor, TRAJ inference>learner, PARAM learner>inference, "
    "GRAD learner>learner",
}


def ledger(wires: str, count: int = 1234, lag: float | None = 1.25) -> list[dict[str, Any]]:
    """Ledger rows of "MESSAGE source>target, ..."."""
    rows = []
    for wire in wires.split(", "):
        message, _, ends = wire.partition(" ")
        source, _, target = ends.partition(">")
        rows.append(
            {
                "system": "made",
                "source": source,
                "target": target,
                "message": message,
                "via": "thread",
                "count": count,
                "bytes": 1000 * count,
                "lag_mean": lag if count else None,
                "lag_max": 4 if count and lag is not None else None,
            }
        )
    return rows


def made_run(path: Path, architecture: str = "ppo", env: str = "CartPole-v1", seed: int = 0, rows: int = 20) -> Path:
    """A run of `rows` rows, 100 env_steps and 0.5 s apart, whose return rises by 10 a row."""
    run = RunDir.create(path, architecture, env, seed)
    config = {"num_actors": 2, "seed": seed, "optimiser": {"learning_rate": 3e-4}}
    run.write_config(architecture, env, seed, config, ["shoal", "train", architecture, "--env", env], engine="threads")
    run.write_hardware()
    writer = MetricsWriter(run.metrics_path)
    for number in range(1, rows + 1):
        row = {"env_steps": 100 * number, "wall_s": 2 + 0.5 * number, "updates": number, "policy_lag_mean": 1.0}
        row |= {"policy_lag_max": 2, "queue_fill_frac": 0.5, "grad_norm": 1 / number, "loss/policy": -1 / number}
        if number > 2:
            row |= {"episode_return_mean": 10.0 * number, "episode_length_mean": 10.0 * number, "episodes": number}
        writer.write(row)
    writer.close()
    phases = {"actor": {"env_step": 6.0, "act": 2.0}, "learner": {"update": 5.0}}
    waits = {"actor": {"put TRAJ": 2.0}, "learner": {"get TRAJ": 5.0}}
    FlowRecord(run.flow_path, architecture).write(ledger(FLOWS.get(architecture, FLOWS["ppo"])), phases, waits, 2000)
    return run.path
