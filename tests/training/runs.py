# SPDX-License-Identifier: Apache-2.0
"""Small runs that leave whole run folders, and what two of them must have in common."""

import json
from pathlib import Path

from shoal import training
from shoal.records import checkpoint
from shoal.records.metrics import read_rows

TIMED = ("wall_s", "env_steps_per_s", "phase_s/", "wait_s/")
"""beginnings of the names in a row that depend on the machine"""

REMEMBERED = {"replay_capacity": 1_000, "replay_start": 64, "batch_size": 8, "replay_ratio": 1.0}
REAL = {**REMEMBERED, "time_limit": 9}
SMALL = {"envs_per_actor": 2, "unroll_length": 8, "env_steps": 600}
EXTRA = {
    "a2c": {},
    "ppo": {"epochs": 2, "minibatches": 2},
    "impala": {"batch_trajectories": 1},
    "appo": {"batch_trajectories": 1},
    "seed": {"batch_trajectories": 1},
    "pg": {"num_actors": 1, "pushes_per_visit": 4},
    "a3c": {"pushes_per_visit": 4},
    "dqn": REMEMBERED,
    "ddpg": REAL, "naf": REAL, "sac": REAL,
    "rainbow": {**REMEMBERED, "n_step": 2},
    "gorila": {**REMEMBERED, "pushes_per_visit": 4, "actors_ahead": 0},
    "apex": {**REMEMBERED, "params_interval": 8, "actors_ahead": 0},
    "r2d2": {**REMEMBERED, "batch_size": 2, "sequence_length": 6, "burn_in": 2, "params_interval": 8,
             "actors_ahead": 0},
}  # fmt: skip
ENVS = {name: "Pendulum-v1" for name in ("ddpg", "naf", "sac")}
"""of those whose actions are real numbers"""


def train(folder, architecture="a2c", env=None, **settings):
    """A run of a second or less; without an environment of episodes of nine steps."""
    fields = {**SMALL, **EXTRA[architecture], **settings}
    env = env or ENVS.get(architecture, "toy:catch")
    return training.train(architecture, env, run_dir=folder, quiet=True, **fields)


def checkpoints(folder) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return checkpoint.paths(Path(folder) / "checkpoints")


def facts(folder) -> dict:
    """config.json."""
    return json.loads((Path(folder) / "config.json").read_text())


def untimed_rows(folder) -> list[dict]:
    """Rows of metrics without what depends on the machine."""
    rows = read_rows(Path(folder) / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith(TIMED)} for row in rows]


def everything_in(folder) -> dict[str, bytes]:
    """Every file of a run folder, by name, but the log."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "log.txt")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
