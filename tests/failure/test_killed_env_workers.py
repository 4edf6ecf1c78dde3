# SPDX-License-Identifier: Apache-2.0
"""kill -9 of environment workers, and of an actor that has some: named, started anew, and training goes on."""

import pytest

ENV_STEPS = 700


def lost_lines(run):
    return [line for line in run.log() if " lost: process " in line]


@pytest.mark.parametrize(
    ("engine", "victims", "sampler"),
    [
        ("inline", 1, "auto"),
        ("threads", 1, "parallel"),
        pytest.param("inline", 2, "auto", marks=pytest.mark.slow),
        pytest.param("threads", 2, "auto", marks=pytest.mark.slow),
        pytest.param("processes", 1, "auto", marks=pytest.mark.slow),
        pytest.param("processes", 2, "auto", marks=pytest.mark.slow),
        pytest.param("inline", 2, "parallel", marks=pytest.mark.slow),
        pytest.param("processes", 1, "parallel", marks=pytest.mark.slow),
        pytest.param("threads", 2, "async", marks=pytest.mark.slow),
    ],
)
def test_killed_workers_are_named_and_started_anew(start, engine, victims, sampler):
    run = start(
        "ppo", engine=engine, num_actors=1, envs_per_actor=4, env_workers=2, sampler=sampler, env_steps=ENV_STEPS,
        env_kwargs={"held": True},
    )  # fmt: skip
    run.until_training(2)
    chosen = sorted(run.stepping())[:victims]
    run.kill(*chosen)
    before = run.rows()[-1]["env_steps"]
    run.until(lambda: len(run.stepping()) == 2 + victims)
    assert before < ENV_STEPS
    run.go_on()
    assert run.end() == 0, run.said()
    last = run.is_whole(ENV_STEPS)
    assert last["env_workers_restarted"] == victims
    assert "workers_restarted" not in last
    assert len(lost_lines(run)) == victims
    for pid in chosen:
        (line,) = [line for line in lost_lines(run) if f"process {pid} " in line]
        assert "failure.told:Told: environment" in line
        assert "step " in line or (sampler == "parallel" and "unroll " in line)
        assert line.endswith("was killed by SIGKILL; a new process opens new episodes")


@pytest.mark.slow
def test_workers_end_with_their_actor_and_begin_with_the_next(start):
    run = start("impala", num_actors=2, env_workers=2, env_steps=ENV_STEPS)
    run.until_training(4)
    actors = run.children() - run.stepping()
    assert len(actors) == 2
    run.kill(min(actors))
    run.until(lambda: len(run.children() & run.stepping()) == 2 and len(run.stepping()) == 4)
    run.until(lambda: len(run.stepping()) == 6)
    assert len(run.children()) == 6
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == 1
    (line,) = [line for line in run.log() if "restarted: " in line]
    assert f"process {min(actors)} of /impala actor/" in line
    assert "was killed by SIGKILL" in line
    assert lost_lines(run) == []
