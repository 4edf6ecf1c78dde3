# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the fork server: whom it had started ends, and a new one starts them anew."""

import signal

import pytest

ENV_STEPS = 700


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "processes"},
        pytest.param({"engine": "processes", "env_workers": 2}, marks=pytest.mark.slow),
        pytest.param({"engine": "inline", "env_workers": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_training_goes_on_with_a_new_server(start, settings):
    run = start("ppo", env_steps=ENV_STEPS, **settings, env_kwargs={"program": True, "held": True})
    steppers = 4 if "env_workers" in settings else 2
    run.until_training(steppers)
    server, children, programs = run.server(), run.children(), run.programs() & run.pids()
    assert len(programs) == 4
    run.kill(server)
    run.until(lambda: not (children | programs | {server}) & run.pids())
    run.until(lambda: len(run.stepping()) == 2 * steppers)
    run.go_on()
    assert run.server() != server
    assert run.end() == 0, run.said()
    last = run.is_whole(ENV_STEPS)
    if settings["engine"] == "inline":
        assert last["env_workers_restarted"] == 4
    else:
        assert last["workers_restarted"] == 2
    named = [line for line in run.log() if "process " in line and any(f"process {pid} " in line for pid in children)]
    assert len(named) == (4 if settings["engine"] == "inline" else 2)
    assert all("ended with the process that starts workers" in line for line in named)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["server", "first child"])
def test_a_server_that_is_killed_while_it_starts_children_is_replaced(start, moment):
    run = start("impala", num_actors=6, env_steps=ENV_STEPS)
    run.until(lambda: run.server() is not None)
    if moment == "first child":
        run.until(run.children)
    run.kill(run.server())
    run.until_training(6)
    assert run.end() == 0, run.said()
    run.is_whole(ENV_STEPS)


@pytest.mark.slow
def test_nothing_is_left_where_command_and_server_are_killed_at_once(start):
    run = start("impala", env_workers=2, env_steps=100_000)
    run.until_training(4)
    run.kill(run.main.pid, run.server())
    assert run.end() == -signal.SIGKILL
