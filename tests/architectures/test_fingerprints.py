# SPDX-License-Identifier: Apache-2.0
"""What must cross crosses, what must never cross does not, and lag is what each architecture promises."""

import os
from fnmatch import fnmatch

import numpy as np
import pytest

from architectures.small import NAMES, NUM_ACTORS, REPLAY, UNROLL, config_of, parts_of, run_small
from shoal.architectures import registry
from shoal.engines import IN_PROCESSES
from shoal.placement.twins import twin_parts

ENGINES = ("inline", "threads", "processes", "ray", "simulated")
FREE = ("threads", "processes", "ray")
VIA = {"threads": "thread", "processes": "process", "ray": "network"}
LOCK_STEP = ("a2c", "ppo")
NUM_LEARNERS = 2
QUEUED = ("impala", "appo", "seed")
CENTRES = {"seed": 1, "gorila": 1 + NUM_LEARNERS}
"""workers that are no actors, and processes of their own where those are; a memory is one"""


def crossings(rows: list[dict]) -> set[str]:
    return {f"{row['message']} {row['source']}>{row['target']}" for row in rows if row["count"] > 0}


def faults(architecture: str, rows: list[dict], **fields) -> list[str]:
    """Every way in which a ledger breaks an architecture's fingerprint under these fields."""
    module = registry.load(architecture)
    must, never = registry.promises(module, module.Config(**fields))
    crossed = crossings(rows)
    missing = [f"missing {wire}" for wire in must if wire not in crossed]
    forbidden = [f"forbidden {c}" for c in sorted(crossed) for wire in never if fnmatch(c, wire)]
    return missing + forbidden


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", NAMES)
def test_ledger_shows_the_fingerprint(architecture, engine):
    workers = NUM_ACTORS + CENTRES.get(architecture, architecture in REPLAY) if engine in IN_PROCESSES else 0
    run = run_small(architecture, engine, updates=6, workers=workers)
    rows = run.engine.rows()
    assert faults(architecture, rows) == []
    assert len({row["system"] for row in rows}) == 1
    assert all(row["bytes"] > 0 for row in rows if row["count"])
    assert {row["via"] for row in rows} == {VIA.get(engine, "call")}
    pids = [place["pid"] for place in run.engine.pids]
    assert len(set(pids)) == len(pids) == workers
    assert os.getpid() not in pids


@pytest.mark.parametrize("architecture", NAMES)
def test_a_forbidden_or_missing_message_is_noticed(architecture):
    module = registry.load(architecture)
    good = []
    for wire in registry.promises(module, module.Config())[0]:
        message, source, target = wire.replace(">", " ").split()
        good.append({"message": message, "source": source, "target": target, "count": 1})
    assert faults(architecture, good) == []
    assert faults(architecture, good[1:])
    assert faults(architecture, [*good, {"message": "GRAD", "source": "actor", "target": "learner", "count": 1}])
    wrong = (
        {"message": "TRAJ", "target": "learner"} if architecture in REPLAY else {"message": "TRANS", "target": "replay"}
    )
    assert faults(architecture, [*good, {**wrong, "source": "actor", "count": 1}])


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", LOCK_STEP)
def test_lock_step_has_lag_zero(architecture, engine):
    run = run_small(architecture, engine, updates=8)
    assert np.concatenate(run.lags).max() == 0
    row = next(row for row in run.engine.rows() if row["message"] == "TRAJ")
    assert (row["lag_mean"], row["lag_max"]) == (0, 0)


@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", QUEUED)
def test_queues_have_lag_above_zero_and_bounded(architecture, engine):
    # queued, in the hands of actors, and one in that of a blocked one; where actors are free to be slow, nothing but
    # the limit bounds the lag of what they hold
    bound = 2 + 2 * NUM_ACTORS
    limit = {"max_lag": bound} if engine in FREE else {}
    run = run_small(architecture, engine, updates=30, batch_trajectories=1, queue_slots=2, **limit)
    lags = np.concatenate(run.lags)
    assert 0 < lags.max() <= bound
    row = next(row for row in run.engine.rows() if row["message"] == "TRAJ")
    assert row["lag_max"] == lags.max()
    assert row["lag_mean"] == pytest.approx(lags.mean())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("architecture", QUEUED)
def test_a_lag_limit_discards_what_is_older(architecture, engine):
    run = run_small(architecture, engine, updates=20, batch_trajectories=1, queue_slots=4, max_lag=1)
    assert np.concatenate(run.lags).max() <= 1
    assert run.engine.drops().get("TRAJ", 0) > 0 or engine in FREE  # where actors may be too slow to be too early


@pytest.mark.parametrize("lag", [3, 5])
@pytest.mark.parametrize("architecture", QUEUED)
def test_forced_lag_is_added_to_the_natural_one(architecture, lag):
    fields = {"updates": 30, "num_actors": 1, "batch_trajectories": 1, "queue_slots": 1}
    natural = np.concatenate(run_small(architecture, "inline", **fields).lags)
    forced = np.concatenate(run_small(architecture, "inline", **fields, forced_lag=lag).lags)
    warm = 2 * lag + len(natural) // 3
    assert set(forced[warm:]) == {x + lag for x in set(natural[warm:])}


@pytest.mark.parametrize("architecture", NAMES)
def test_twins_move_what_the_real_parts_move(architecture):
    config = config_of(architecture, 6)
    real_parts = parts_of(architecture, config)
    real = run_small(architecture, "inline", updates=6, parts=real_parts)
    size = real_parts.agent.init(0).size
    twin = run_small(architecture, "simulated", updates=6, parts=twin_parts(real_parts.spec, size))
    assert crossings(real.engine.rows()) == crossings(twin.engine.rows())
    for a, b in zip(real.engine.rows(), twin.engine.rows(), strict=True):
        assert (a["count"] > 0) == (b["count"] > 0), a["message"]
        if not a["count"] or (architecture, a["message"]) == ("r2d2", "TRAJ"):
            continue  # how many sequences are complete depends on episodes
        same = pytest.approx(b["bytes"] / b["count"], rel=0.01 if architecture in REPLAY else 0)  # the first is shorter
        assert a["bytes"] / a["count"] == same, a["message"]


@pytest.mark.parametrize("architecture", LOCK_STEP)
def test_reset_rows_are_not_counted_as_steps(architecture):
    run = run_small(architecture, "inline", updates=10)
    rows = sum(NUM_ACTORS * 2 * UNROLL for _ in run.states)
    assert 0 < run.states[-1].env_steps < rows
