# SPDX-License-Identifier: Apache-2.0
"""Nodes with addresses of their own in network namespaces, over a link that is cut, loses packets or is slow."""

import contextlib
import json
import sys
import time

import pytest

from architectures.small import NAMES
from cluster.raylets import Raylets
from cluster.runs import start
from cluster.spaces import FIRST, SECOND, Spaces, available
from cluster.test_ray import PROGRAM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not available(), reason="needs root and network namespaces"),
]


@contextlib.contextmanager
def cluster_over_a_link(folder, **settings):
    """(the cluster, the link between its two nodes)."""
    with Spaces() as spaces:
        raylets = Raylets(folder, hosts=(FIRST, SECOND), within=spaces.within, **settings)
        try:
            yield raylets, spaces
        finally:
            raylets.close()


def test_every_architecture_runs_between_namespaces(tmp_path_factory):
    with cluster_over_a_link(tmp_path_factory.mktemp("n"), cpus=8, head_cpus=0) as (raylets, _):
        ran = raylets.run([sys.executable, PROGRAM, raylets.address, "free", *NAMES], 600)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    found = [line for line in lines if "name" in line]
    assert [line["name"] for line in found] == list(NAMES)
    assert all(line["faults"] == [] and line["via"] == ["network"] for line in found)


@pytest.mark.parametrize("fault", ["cut", "loss", "delay"])
def test_training_goes_on_over_a_bad_link(fault, tmp_path, tmp_path_factory):
    """Five seconds without a packet; a third of them lost; 200 ms each way. All with the link as Ray has it too."""
    with cluster_over_a_link(tmp_path_factory.mktemp("n"), cpus=8, head_cpus=0) as (raylets, link):
        run = start(raylets, tmp_path, env_steps=6_000)
        run.until(lambda: run.steps() > 500)
        before = run.steps()
        if fault == "cut":
            link.cut = True
            time.sleep(5)
            link.cut = False
        elif fault == "loss":
            link.loss = 0.3
            time.sleep(20)
            run.until(lambda: run.steps() > before)
            link.loss = 0.0
        else:
            link.delay_s = 0.2
            run.until(lambda: run.steps() > before + 200)
            link.delay_s = 0.0
        after = run.steps()
        run.until(lambda: run.steps() > after)
        assert run.end(240) == 0, run.said()
        assert fault == "delay" or link.lost > 0
    run.is_whole(6_000)
    assert "restarted" not in run.log()
