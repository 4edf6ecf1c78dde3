# SPDX-License-Identifier: Apache-2.0
"""Every architecture on a Ray cluster of two nodes, each a raylet of its own: the fingerprint of the ledger, and in
fixed order the params of processes.
"""

import json
import sys
from pathlib import Path

import pytest

from architectures.small import NAMES, NUM_ACTORS
from cluster.raylets import Raylets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SAME = ("a2c", "ppo", "impala", "dqn")
PROGRAM = str(Path(__file__).parent / "on_ray.py")


@pytest.fixture(scope="module")
def raylets(tmp_path_factory):
    cluster = Raylets(tmp_path_factory.mktemp("r"), hosts=("127.0.0.2", "127.0.0.3"), cpus=3)
    yield cluster
    cluster.close()


def results(raylets, order, names, seconds):
    ran = raylets.run([sys.executable, PROGRAM, raylets.address, order, *names], seconds)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines if "name" in line}


@pytest.fixture(scope="module")
def in_free_order(raylets):
    return results(raylets, "free", NAMES, 600)


@pytest.fixture(scope="module")
def in_fixed_order(raylets):
    return results(raylets, "fixed", SAME, 600)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("architecture", NAMES)
def test_every_architecture_keeps_its_fingerprint(architecture, in_free_order):
    found = in_free_order[architecture]
    assert found["faults"] == []
    assert found["via"] == ["network"]
    assert found["losses"] == []
    actors = [place for place in found["places"] if place["role"] in ("actor", "learner")]
    assert len({place["pid"] for place in actors}) >= NUM_ACTORS


def test_workers_were_on_both_nodes(in_free_order):
    nodes = {place["node"] for found in in_free_order.values() for place in found["places"]}
    assert len(nodes) == 2


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("architecture", SAME)
def test_fixed_order_gives_the_params_of_processes(architecture, in_fixed_order):
    found = in_fixed_order[architecture]
    assert found["updates"] >= 20
    assert found["same_as_processes"]
    assert not found["same_with_another_seed"]
