# SPDX-License-Identifier: Apache-2.0
"""What cannot be on a cluster is told in one line, with exit code 2, before a folder is made."""

import os
import socket
import subprocess
import sys
import time

import pytest

from cluster.raylets import Raylets
from repository.sources import ROOT
from shoal.engines.cluster.ray_faults import explained, missing

TRAIN = ["train", "impala", "--env", "toy:catch", "--engine", "ray", "--env-steps", "200"]
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from shoal.cli.main import main; sys.exit(main(sys.argv[1:]))"


def shoal(words, tmp_path, env=None, code=None):
    """(exit code, standard error, seconds) of a command; it leaves no folder."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "shoal"]), *words, "--run-dir", str(tmp_path / "run")]
    paths = {"PYTHONPATH": str(ROOT / "src")}
    began = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True, env={**(env or os.environ), **paths}, timeout=100)
    assert not (tmp_path / "run").exists()
    return ran.returncode, ran.stderr, time.monotonic() - began


def told(found, *words):
    """One line with all of these words."""
    code, errors, _ = found
    assert code == 2, errors
    (line,) = errors.strip().splitlines()
    assert line.startswith("shoal: ")
    assert all(word in line for word in words), line


def test_ray_is_not_installed(tmp_path):
    told(shoal(TRAIN, tmp_path, code=WITHOUT_RAY), "package ray", "pip install 'shoal[ray]'", "--engine processes")


def test_nobody_is_there(tmp_path):
    found = shoal([*TRAIN, "--address", "127.0.0.1:1"], tmp_path)
    told(found, "nobody answers at 127.0.0.1:1", "ray start --head")


@pytest.mark.slow
@pytest.mark.alone
def test_nobody_is_there_and_that_is_said_soon(tmp_path):
    assert shoal([*TRAIN, "--address", "127.0.0.1:1"], tmp_path)[2] < 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "here"], ("address='here'", "host:port")),
        (["--actor-cpus", "0"], ("actor_cpus=0.0", "--actor-cpus")),
        (["--compress", "some"], ("compress",)),
    ],
)
def test_nonsense(words, said, tmp_path):
    told(shoal([*TRAIN, *words], tmp_path), *said)


def test_settings_of_a_cluster_on_another_engine(tmp_path):
    words = [word if word != "ray" else "processes" for word in TRAIN]
    told(shoal([*words, "--address", "auto"], tmp_path), "address=auto is for --engine ray", "processes")


def test_versions_that_differ_are_said_to_differ():
    ray = "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.7\nThis process: ..."
    assert "its versions differ" in explained(RuntimeError(ray))


def test_what_is_missing():
    nodes = [{"Resources": {"CPU": 4.0}}, {"Resources": {"CPU": 2.0}}]
    assert missing([{"CPU": 1.0}] * 6, nodes, "6 actors") is None
    line = missing([{"CPU": 1.0}] * 8, nodes, "8 actors")
    assert line.startswith("8 actors need 8 CPU, the cluster has 6 CPU on 2 nodes")
    assert "no node has 5 CPU by itself" in missing([{"CPU": 5.0}], nodes, "1 learner")
    assert "has 6 CPU, 0 GPU" in missing([{"CPU": 1.0, "GPU": 1.0}], nodes, "1 learner")


@pytest.mark.slow
def test_somebody_else_listens_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = shoal([*TRAIN, "--address", f"127.0.0.1:{port}"], tmp_path)
    told(found, f"127.0.0.1:{port}", "RAY_AUTH_TOKEN")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_real_cluster_with_too_little_room_or_another_token(tmp_path, tmp_path_factory):
    raylets = Raylets(tmp_path_factory.mktemp("r"), cpus=2, head_cpus=0)
    try:
        words = [*TRAIN, "--address", raylets.address]
        other = {**raylets.env, "RAY_AUTH_TOKEN": "0" * 64}
        told(shoal(words, tmp_path, other), "token", "RAY_AUTH_TOKEN")
        without = {name: value for name, value in raylets.env.items() if not name.startswith("RAY_AUTH")}
        told(shoal(words, tmp_path, without), "token", "RAY_AUTH_TOKEN")
        ran = subprocess.run(
            [sys.executable, "-m", "shoal", *words, "--num-actors", "5", "--run-dir", str(tmp_path / "small")],
            capture_output=True, text=True, env={**raylets.env, "PYTHONPATH": str(ROOT / "src")}, timeout=100,
        )  # fmt: skip
        assert ran.returncode == 2, ran.stderr
        assert "5 actors need 5 CPU, the cluster has 2 CPU" in ran.stderr
    finally:
        raylets.close()
