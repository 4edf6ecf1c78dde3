# SPDX-License-Identifier: Apache-2.0
"""Runs of several learners from the command line, each in a process of its own: JAX must not have started before."""

import json

import pytest

from cli.shell import refusal, shoal
from shoal.processes.seats import allowed_cpus

TRAIN = ("train", "a2c", "--env", "toy:catch", "--env-steps", "600", "--envs-per-actor", "4", "--unroll-length", "8")
FIRST, LAST = allowed_cpus()[0], allowed_cpus()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--learners", "3"), "learners=3 cannot share the 4 environments of a batch evenly"),
        (("--learners", "1000", "--learner-devices", "1000"), "learner_devices=1000 are more than 4 virtual devices"),
        (("--placement", f"learn=cpu{LAST + 1}"), f"cpu{LAST + 1} is not among those this process may use"),
        (("--placement", "act=cpu0"), "act=cpu0 cannot be on --engine inline"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, tmp_path):
    assert said in refusal(*TRAIN, *words, jax=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_two_learners_on_two_devices_goes_on_after_its_end(tmp_path):
    words = ("--learners", "2", "--learner-devices", "2", "--placement", f"learn=cpu{FIRST}", "--run-dir", "run")
    answer = shoal(*TRAIN, *words, jax=True, cwd=tmp_path)
    assert answer.code == 0, answer.err
    run = tmp_path / "run"
    hardware = json.loads((run / "hardware.json").read_text())
    assert len(hardware["devices"]) == 3
    assert hardware["placement"] == f"learn=cpu{FIRST}"
    assert hardware["affinity"] == [FIRST]
    assert f"placement learn=cpu{FIRST}" in (run / "log.txt").read_text()
    (grad,) = [r for r in json.loads((run / "flow.json").read_text())["segments"][0]["rows"] if r["message"] == "GRAD"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert (grad["via"], grad["count"]) == ("device", 2 * last["updates"])
    resumed = shoal("resume", "run", "--env-steps", "1200", jax=True, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["env_steps"] >= 1200
    assert shoal("evaluate", "run", "--episodes", "2", jax=True, cwd=tmp_path).code == 0


@pytest.mark.slow
def test_a_run_of_two_learner_processes_leaves_nothing_on_the_streams(tmp_path):
    words = ("--num-actors", "2", "--learners", "2", "--learner-processes", "2", "--run-dir", "run")
    words += ("--placement", f"act=cpu{LAST} learn=cpu{FIRST},cpu{LAST}")
    answer = shoal(*TRAIN, *words, jax=True, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "Gloo" not in answer.out + answer.err
    assert "coordination" not in answer.out + answer.err
    segment = json.loads((tmp_path / "run" / "flow.json").read_text())["segments"][0]
    assert {place["role"] for place in segment["pids"]} == {"actor", "learner"}
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["episodes"] > 0
    assert last["env_steps"] >= 600
