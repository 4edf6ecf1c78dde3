# SPDX-License-Identifier: Apache-2.0
"""kill -9 of actors: each is named and started anew, training goes on to its end, nothing is torn."""

import pytest

from shoal.records import checkpoint

ACTORS, ENV_STEPS = 3, 900


def lines_about(run, pid):
    return [line for line in run.log() if f"process {pid} of " in line]


@pytest.mark.parametrize(
    ("architecture", "victims"),
    [
        pytest.param("impala", 1, marks=pytest.mark.slow),
        pytest.param("impala", 2, marks=pytest.mark.slow),
        ("impala", ACTORS),
        pytest.param("a2c", 1, marks=pytest.mark.slow),
        pytest.param("ppo", ACTORS, marks=pytest.mark.slow),
    ],
)
def test_killed_actors_are_named_and_started_anew(start, architecture, victims):
    run = start(architecture, num_actors=ACTORS, env_steps=ENV_STEPS, env_kwargs={"held": True})
    run.until_training(ACTORS)
    chosen = sorted(run.children())[:victims]
    run.kill(*chosen)
    before = run.rows()[-1]["env_steps"]
    run.until(lambda: len(run.stepping()) == ACTORS + victims)
    assert before < ENV_STEPS
    run.go_on()
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == victims
    for pid in chosen:
        (line,) = lines_about(run, pid)
        assert f"/{architecture} actor/" in line
        assert "(epoch 0) restarted: WorkerDied: " in line
        assert f"of /{architecture} actor/" in line
        assert "was killed by SIGKILL" in line


@pytest.mark.slow
def test_in_fixed_order_a_killed_actor_ends_the_run_in_one_line(start):
    run = start("impala", order="fixed", env_steps=20_000)
    run.until(lambda: checkpoint.paths(run.folder / "checkpoints"))  # of the first segment: such an end saves nothing
    run.until_training(2)
    victim = min(run.children())
    run.kill(victim)
    assert run.end() == 1
    assert f"process {victim} of /impala actor/0 was killed by SIGKILL" in run.complaint()
    run.is_whole(1)


@pytest.mark.slow
def test_an_actor_that_dies_before_it_hands_anything_over_is_given_three_lives(start):
    run = start("impala", num_actors=1, unroll_length=400, env_steps=4000)  # of seconds
    for life in (1, 2, 3):
        run.until(lambda life=life: len(run.stepping()) == life)
        victim = max(run.children())
        run.kill(victim)
    assert run.end() == 3  # always inside an environment: then that is to blame
    assert f"process {victim} of /impala actor/0 was killed by SIGKILL inside its code" in run.complaint()
    restarts = [line for line in run.log() if "restarted: " in line]
    assert len(restarts) == 2
    assert "restarted: WorkerDied: process" in restarts[1]
