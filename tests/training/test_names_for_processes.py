# SPDX-License-Identifier: Apache-2.0
"""What other processes cannot find by name is refused in one line; scripts need no guard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shoal
from shoal.errors import ConfigError
from training.own_envs import Sound

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "engine": "processes",
    "env_steps": 64,
    "unroll_length": 8,
    "envs_per_actor": 2,
    "num_actors": 2,
    "quiet": True,
}

SCRIPT = """
import shoal
from training.own_envs import Sound

{env}
result = shoal.train("a2c", {name}, engine="processes", env_steps=64, unroll_length=8, envs_per_actor=2, num_actors=2,
                     run_dir="run", quiet=True)
print(result.metrics[-1]["env_steps"])
"""


def refusal(env, folder, **settings):
    with pytest.raises(ConfigError) as caught:
        shoal.train("a2c", env, run_dir=folder / "run", **SMALL, **settings)
    assert not (folder / "run").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_lambda_is_told_to_use_a_module_or_threads(tmp_path):
    line = refusal(lambda: Sound(), tmp_path)
    assert "cannot be found by name in another process" in line
    assert "module" in line
    assert "--engine threads" in line


def test_a_network_made_inside_a_function_is_refused(tmp_path):
    def network(spec, key):
        raise AssertionError("never built")

    assert "network" in refusal(Sound, tmp_path, network=network)


def test_a_class_of_a_module_crosses_by_name(tmp_path):
    result = shoal.train("a2c", Sound, run_dir=tmp_path / "run", **SMALL)
    assert result.metrics[-1]["env_steps"] >= 64


@pytest.mark.parametrize(
    ("env", "name", "says"),
    [
        ("", "Sound", None),
        ("class Mine(Sound):\n    pass\n", "Mine", "__main__:Mine cannot be found by name in another process"),
    ],
)
def test_a_script_without_a_guard(env, name, says, tmp_path):
    """Children never run the user's script: it works, unless it defines what they need."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(env=env, name=name))
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    run = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip
    if says is None:
        assert int(run.stdout) >= 64, run.stderr
    else:
        assert says in run.stderr.splitlines()[-1]
