# SPDX-License-Identifier: Apache-2.0
"""The walls hold in the source, and each of them bites on a snippet that breaks it."""

import shutil
import subprocess
import sys

import pytest

from repository.sources import ROOT, SOURCES, module_name
from repository.walls import broken_walls, misplaced_wiring


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_source_keeps_the_walls(path):
    source = path.read_text()
    assert broken_walls(module_name(path), source) == []
    assert misplaced_wiring(module_name(path), source) == []


BREACHES = [
    ("shoal.actors.rollout", "import time"),
    ("shoal.learners.single", "from time import perf_counter"),
    ("shoal.training", "import threading"),
    ("shoal.records.live", "from queue import Queue"),
    ("shoal.envs.pool", "def start():\n    import multiprocessing.shared_memory"),
    ("shoal.actors.rollout", "from concurrent.futures import ThreadPoolExecutor"),
    ("shoal.architectures.a2c", "import greenlet"),
    ("shoal.training", "import gymnasium as gym"),
    ("shoal.actors.rollout", "from ale_py import roms"),
    ("shoal.envs.toy", "import jax.numpy as jnp"),
    ("shoal.envs.jitted.gymnax_env", "import gymnax"),
    ("shoal.types", "import optax"),
    ("shoal.cli.main", "import equinox"),
    ("shoal.architectures.ppo", "class Config:\n    import jax"),
    ("shoal.records.checkpoint", "def load():\n    import pickle"),
]


@pytest.mark.parametrize(("module", "source"), BREACHES)
def test_walls_bite(module, source):
    assert len(broken_walls(module, source)) == 1


def test_walls_let_pass_what_they_should():
    assert broken_walls("shoal.engines.threads", "import time, threading, greenlet") == []
    assert broken_walls("shoal.envs.atari", "import ale_py, gymnasium") == []
    assert broken_walls("shoal.envs.jitted.traced", "import jax") == []
    assert broken_walls("shoal.cli.doctor", "def devices():\n    import jax") == []
    assert broken_walls("shoal.types", "if TYPE_CHECKING:\n    import jax") == []


WIRING_BREACHES = [
    ("shoal.actors.rollout", "from shoal.engines import system"),
    ("shoal.learners.single", "def f(s):\n    return s.channel('TRAJ', 'a', 'b', 2)"),
    ("shoal.training", "s.spawn('actor', 2, f)"),
    ("shoal.architectures.a2c", "from shoal.engines import make_engine"),
    ("shoal.cli.train", "from shoal.engines.base import make_engine, phase"),
]


@pytest.mark.parametrize(("module", "source"), WIRING_BREACHES)
def test_wiring_belongs_to_architectures(module, source):
    assert len(misplaced_wiring(module, source)) == 1


def test_architectures_may_wire_and_training_may_make_engines():
    program = "from shoal.engines import system\nwith system('a', 'b') as s:\n    s.spawn('actor', 1, f)"
    assert misplaced_wiring("shoal.architectures.a2c", program) == []
    assert misplaced_wiring("shoal.training", "from shoal.engines import make_engine") == []


LADDER_BREACHES = {
    "types.py": "import shoal.seeds",  # beside
    "envs/__init__.py": "import shoal.architectures",  # above
    "architectures/a2c.py": "def f():\n    import shoal.architectures.ppo",  # a sibling, late
    "engines/__init__.py": "import optax",  # a wall, kept by import-linter as well since it follows chains
}


def test_the_ladder_bites(tmp_path):
    """import-linter with the real settings, on a copy of the package with four imports added."""
    shutil.copytree(ROOT / "src" / "shoal", tmp_path / "shoal", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, breach in LADDER_BREACHES.items():
        path = tmp_path / "shoal" / name
        path.write_text(path.read_text() + f"\n{breach}\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    answer = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert answer.returncode == 1
    for broken in ["ladder", "No JAX", "stands alone"]:
        assert any(broken in line and "BROKEN" in line for line in answer.stdout.splitlines()), answer.stdout
    for culprit in ["shoal.types -> shoal.seeds", "shoal.envs -> shoal.architectures", "shoal.engines -> optax"]:
        assert culprit in answer.stdout
