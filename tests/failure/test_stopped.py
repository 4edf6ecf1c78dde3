# SPDX-License-Identifier: Apache-2.0
"""SIGSTOP of children, SIGTERM and Ctrl-C of the command."""

import os
import re
import signal

import pytest

ENV_STEPS = 1000


@pytest.mark.slow
def test_a_stopped_actor_is_noticed_and_started_anew(start):
    run = start("impala", hang_seconds=0.5, env_steps=ENV_STEPS)
    run.until_training(2)
    victim = min(run.children())
    run.kill(victim, number=signal.SIGSTOP)
    run.until(lambda: len(run.stepping()) == 3, seconds=10)
    assert victim not in run.pids()
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == 1
    (line,) = [line for line in run.log() if "restarted: " in line]
    said = rf"WorkerDied: process {victim} of /impala actor/[01] was stopped, did nothing for 0.5 s and was ended"
    assert re.search(said, line)


@pytest.mark.slow
def test_an_actor_stopped_in_three_lives_in_a_row_ends_the_run(start):
    run = start("impala", num_actors=1, unroll_length=400, hang_seconds=0.5, env_steps=4000)
    for life in (1, 2, 3):
        run.until(lambda life=life: len(run.stepping()) == life)
        victim = max(run.children())
        run.kill(victim, number=signal.SIGSTOP)
    assert run.end() == 1
    assert f"process {victim} of /impala actor/0 was stopped, did nothing for 0.5 s and was ended" in run.complaint()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_a_stopped_env_worker_is_replaced(start, engine):
    run = start(
        "ppo", engine=engine, num_actors=1, env_workers=2, step_timeout=0.5, hang_seconds=1, env_steps=ENV_STEPS
    )
    run.until_training(2)
    victim = min(run.stepping())
    run.kill(victim, number=signal.SIGSTOP)
    run.until(lambda: len(run.stepping()) == 3, seconds=10)
    assert run.end() == 0, run.said()
    last = run.is_whole(ENV_STEPS)
    assert last["env_workers_restarted"] == 1
    assert "workers_restarted" not in last
    (line,) = [line for line in run.log() if " lost: process " in line]
    assert f"process {victim} was stopped and is replaced" in line


@pytest.mark.parametrize(
    ("number", "code", "settings"),
    [
        (signal.SIGTERM, 143, {"env_workers": 2}),
        pytest.param(signal.SIGTERM, 143, {}, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, {"env_workers": 2}, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, {"engine": "inline", "env_workers": 2}, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_leaves_nothing(start, number, code, settings):
    """Sent to everybody in the command's group, as a terminal does."""
    run = start("impala", env_steps=100_000, env_kwargs={"program": True}, **settings)
    run.until_training(4 if settings else 2)
    os.killpg(run.main.pid, number)
    assert run.end(60) == code, run.said()
    run.is_whole(1)
    assert "continue:   shoal resume" in run.said()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["server", "first child"])
def test_a_signal_while_children_are_being_started(start, moment):
    run = start("impala", num_actors=12, env_steps=100_000)
    run.until(lambda: run.server() is not None)
    if moment == "first child":
        run.until(run.children)
    run.main.send_signal(signal.SIGTERM)
    assert run.end(20) in (143, -signal.SIGTERM), run.said()
    assert "Traceback" not in run.said()
