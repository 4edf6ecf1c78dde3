# SPDX-License-Identifier: Apache-2.0
"""kill -9 of those around a replay memory: actors, the memory itself, learners. Each is started anew, and training goes
on to its end.
"""

import pytest

ENV_STEPS = 1_500
SMALL = {"replay_start": 64, "batch_size": 16, "replay_ratio": 0.5, "n_step": 2, "env_steps": ENV_STEPS}


def lines_about(run, pid):
    return [line for line in run.log() if f"process {pid} of " in line]


@pytest.mark.evidence("fingerprint", "apex")
def test_killed_actors_leave_the_rest_of_apex_running(start):
    run = start("apex", num_actors=2, **SMALL, env_kwargs={"held": True})
    run.until_training(2)
    victim = min(run.stepping() & run.children())
    run.kill(victim)
    run.until(lambda: len(run.stepping()) == 3)
    run.go_on()
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == 1
    (line,) = lines_about(run, victim)
    assert "/apex actor/" in line
    assert "restarted: WorkerDied" in line


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "role"), [("apex", "replay"), ("gorila", "replay"), ("gorila", "learner")])
def test_a_killed_memory_or_learner_is_started_anew(start, architecture, role):
    own = {"pushes_per_visit": 1} if architecture == "gorila" else {}
    run = start(architecture, num_actors=2, **SMALL, **own)
    run.until_training(2)
    others = run.children() - run.stepping()
    killed = set()
    for victim in sorted(others):
        run.kill(victim)
        run.until(lambda victim=victim: lines_about(run, victim))
        killed |= {line.split(f"/{architecture} ")[1].split("/")[0] for line in lines_about(run, victim)}
        if role in killed:
            break
    assert role in killed
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] >= 1


@pytest.mark.slow
@pytest.mark.evidence("fingerprint", "naf/realtime")
@pytest.mark.evidence("fingerprint", "ddpg/realtime")
def test_a_killed_collector_leaves_training_running(start):
    run = start("dqn", num_actors=3, realtime=True, envs_per_actor=1, **{**SMALL, "replay_ratio": 4.0})
    run.until_training(3)
    victim = min(run.stepping() & run.children())
    run.kill(victim)
    before = run.rows()[-1]["updates"]
    run.until(lambda: run.rows()[-1]["updates"] > before)
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == 1
    (line,) = lines_about(run, victim)
    assert "/dqn actor/" in line


@pytest.mark.slow
@pytest.mark.parametrize("priorities", ["none", "proportional"])
def test_a_round_that_was_lost_with_its_memory_is_followed_by_others(start, priorities):
    run = start("dqn", num_actors=2, priorities=priorities, **SMALL)
    run.until_training(2)
    (memory,) = run.children() - run.stepping()
    run.kill(memory)
    assert run.end() == 0, run.said()
    assert run.is_whole(ENV_STEPS)["workers_restarted"] == 1
    (line,) = lines_about(run, memory)
    assert "/dqn replay/0" in line
