# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the command: nothing of it is left after two seconds, and what it had saved goes on."""

import json
import signal
import sys

import numpy as np
import pytest

from failure.commands import Run, running
from shoal.records import checkpoint

ENGINES = ["inline", "processes"]
ORPHANS = {"env_kwargs": {"program": True}}


@pytest.mark.parametrize("engine", [pytest.param("inline", marks=pytest.mark.slow), "processes"])
def test_nothing_is_left_of_a_run_whose_command_was_killed(start, engine):
    """Not its fork server, actors and workers, nor the programs that environments have started."""
    run = start("ppo", engine=engine, num_actors=2, env_workers=2, env_steps=100_000, **ORPHANS)
    run.until_training(4)
    assert len(run.programs() & run.pids()) == 4
    assert len(run.children()) == (4 if engine == "inline" else 6)
    run.kill(run.main.pid)
    assert run.end() == -signal.SIGKILL


@pytest.mark.slow
def test_nor_of_children_that_were_stopped(start):
    run = start("impala", env_steps=100_000)
    run.until_training(2)
    for pid in run.children():
        run.kill(pid, number=signal.SIGSTOP)
    run.kill(run.main.pid)
    assert run.end() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "failure.flat:Flat"])
@pytest.mark.parametrize("moment", ["server", "first child", "many children"])
def test_nor_of_one_that_was_just_starting_its_children(start, moment, network):
    """With a network that acts in JAX the server imports it first, which takes a second."""
    run = start("impala", num_actors=12, env_steps=100_000, network=network)
    run.until(lambda: run.server() is not None)
    if moment != "server":
        run.until(lambda: len(run.children()) >= (1 if moment == "first child" else 4))
    run.kill(run.main.pid)
    assert run.end() == -signal.SIGKILL


KILLED_IN_SAVE = """
import os, signal, sys
from shoal.cli.main import main
from shoal.records import checkpoint
save, saves, event, left = checkpoint.save, int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def die_in_save(*args, **settings):
    global saves
    saves -= 1
    if saves == 0:
        setattr(os, event, dying(getattr(os, event)))
    return save(*args, **settings)
def dying(real):
    def call(*args, **settings):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **settings)
    return call
checkpoint.save = die_in_save
sys.exit(main(sys.argv[4:]))
"""
"""dies in its n-th checkpoint, before the m-th call of this function of os"""


@pytest.mark.slow
@pytest.mark.parametrize(("event", "nth"), [("fsync", 1), ("fsync", 2), ("rename", 1), ("fsync", 3)])
def test_a_run_killed_while_it_saves_goes_on_as_if_nothing_had_been(event, nth, tmp_path):
    """In fixed order: the params at the end are those of a run that nobody killed."""
    words = ["train", "impala", "--env", "toy:catch", "--engine", "processes", "--order", "fixed", "--env-steps", "400"]
    words += ["--envs-per-actor", "2", "--unroll-length", "8"]
    ends = []
    for number, program in enumerate((["-m", "shoal"], ["-c", KILLED_IN_SAVE, "2", event, str(nth)])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with running(Run(folder, [sys.executable, *program, *words, "--run-dir", str(folder / "run")])) as run:
            assert run.end() == (-signal.SIGKILL if number else 0)
        if number:
            saved = checkpoint.load_latest(run.folder / "checkpoints")
            assert saved.step < 400
            with running(Run(folder, [sys.executable, "-m", "shoal", "resume", str(run.folder)])) as run:
                assert run.end() == 0, run.said()
        run.is_whole(400)
        ends.append(checkpoint.load_latest(run.folder / "checkpoints"))
    plain, resumed = ends
    np.testing.assert_array_equal(resumed.arrays["params"], plain.arrays["params"])
    assert json.dumps(resumed.meta["episodes"]) == json.dumps(plain.meta["episodes"])
