# SPDX-License-Identifier: Apache-2.0
"""Rounds around a replay memory: who is ahead, how often rows are learnt from, and what is left alone until they come.

On twins, which do nothing: what is tested is the flow. Real runs are in `test_fingerprints` and `test_run_folder`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from shoal.architectures import dqn
from shoal.engines import make_engine
from shoal.errors import ConfigError
from shoal.placement.flow import CARTPOLE
from shoal.placement.twins import twin_parts
from shoal.records.segments import segment_end
from shoal.replay.snapshots import forget_after, snapshot_for, snapshots, step_of

ENGINES = ("inline", "threads", "simulated")
SMALL = {"num_actors": 2, "envs_per_actor": 4, "env_steps": 12_000, "replay_start": 500}


@dataclass
class Seen:
    """What a run did."""

    engine: Any
    state: Any = None
    metrics: list[dict] = field(default_factory=list)
    env_steps: list[int] = field(default_factory=list)

    def visit(self, state, batch, metrics):
        assert batch == []
        self.metrics.append(metrics)
        self.env_steps.append(state.env_steps)
        return state

    def row(self, message):
        return next(row for row in self.engine.rows() if row["message"] == message)


def run(engine="inline", state=None, folder=None, **fields):
    seen = Seen(make_engine(engine))
    parts = twin_parts(CARTPOLE, 100)._replace(replay_folder=folder)
    seen.state = seen.engine.run(dqn.run, dqn.Config(**{**SMALL, **fields}), parts, state, seen.visit)
    return seen


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("priorities", ["none", "proportional"])
@pytest.mark.parametrize("ratio", [0.5, 8.0])
def test_each_row_is_learnt_from_as_often_as_the_ratio_says(engine, priorities, ratio):
    seen = run(engine, priorities=priorities, replay_ratio=ratio)
    assert seen.metrics[-1]["replay_ratio"] == pytest.approx(ratio, rel=0.05)
    learnt = seen.state.updates * 32 / (seen.state.env_steps - SMALL["replay_start"])
    assert learnt == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.evidence("fingerprint", "dqn/sampler=async")
@pytest.mark.parametrize(("sampler", "lag"), [("auto", 0), ("async", 1)])
def test_rows_arrive_under_the_newest_params_or_those_before(engine, sampler, lag):
    row = run(engine, sampler=sampler).row("TRANS")
    assert row["lag_max"] == lag


def test_nothing_is_learnt_before_the_start_and_env_steps_go_on():
    seen = run(replay_start=4_000, env_steps=3_900)
    assert seen.state.updates == 0
    assert seen.env_steps == sorted(set(seen.env_steps))
    assert seen.row("BATCH")["count"] == len(seen.env_steps)


def test_priorities_come_back_for_every_message_and_only_where_they_count():
    seen = run(priorities="proportional")
    assert seen.row("PRIO")["count"] == seen.row("BATCH")["count"] - len(seen.env_steps)
    assert "PRIO" not in {row["message"] for row in run().engine.rows()}


def test_in_real_time_collectors_take_params_when_episodes_begin_and_wait_for_nobody():
    # learning takes a hundred times as long as a step: collectors go on all the same
    engine = make_engine("simulated", costs={"env_step": 0.01, "update": 1.0, "*": 0.0})
    fields = {"realtime": True, "envs_per_actor": 1, "num_actors": 4, "env_steps": 4_000, "replay_start": 100}
    state = engine.run(dqn.run, dqn.Config(**fields), twin_parts(CARTPOLE, 100))
    rows = {row["message"]: row for row in engine.rows()}
    assert rows["TRANS"]["count"] == pytest.approx(4 * engine.now() / 0.01, rel=0.01)
    assert state.updates == pytest.approx(engine.now(), rel=0.1)
    assert rows["PARAM"]["count"] <= rows["TRANS"]["count"] / 50 + 4


def test_a_snapshot_at_every_quarter_of_which_three_are_kept(tmp_path):
    seen = run(folder=str(tmp_path))
    kept = [step_of(path) for path in snapshots(tmp_path)]
    assert kept == [next(s for s in seen.env_steps if s >= mark) for mark in (6_000, 9_000, 12_000)]
    again = run(folder=str(tmp_path), state=seen.state, env_steps=13_000)
    assert again.metrics[0]["replay_fill_frac"] == pytest.approx(seen.state.env_steps / 100_000, rel=0.02)
    assert again.state.updates > seen.state.updates
    assert run(folder=str(tmp_path / "none"), save_replay=False).state.updates > 0
    assert not (tmp_path / "none").exists()


def test_the_snapshot_of_a_step_is_its_own_or_the_newest_before(tmp_path):
    for step in (10, 200, 3_000):
        (tmp_path / f"step-{step}").mkdir()
    (tmp_path / ".step-9000").mkdir()
    assert snapshot_for(tmp_path, 200) == tmp_path / "step-200"
    assert snapshot_for(tmp_path, 2_999) == tmp_path / "step-200"
    assert snapshot_for(tmp_path, 9) is None
    assert snapshot_for(tmp_path) == tmp_path / "step-3000"
    assert snapshot_for(tmp_path / "none", 9) is None
    forget_after(tmp_path, 200)
    assert [step_of(path) for path in snapshots(tmp_path)] == [10, 200]


def test_segments_end_at_quarters():
    marks = [0]
    while marks[-1] < 10:
        marks.append(segment_end(10, marks[-1]))
    assert marks == [0, 2, 5, 7, 10]
    assert segment_end(10, 10) == 10


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_step": 17}, "n_step=17 reaches beyond an unroll of 16 steps"),
        ({"replay_start": 200_000}, "replay_start=200000 rows never come together"),
        ({"replay_ratio": 0.0}, "replay_ratio=0.0 must be above 0"),
        ({"priority_exponent": 1.5}, "priority_exponent=1.5 must lie in"),
        ({"importance_steps": 0}, "importance_steps=0 must be above 0, or none"),
        ({"realtime": True}, "envs_per_actor=8 environments would wait for one another"),
        ({"normalise_obs": True}, "normalise_obs needs a learner that sees every row once"),
        ({"target_rate": 0.0}, "target_rate=0.0 must lie in"),
        ({"atoms": 1}, "atoms=1 span no distribution"),
        ({"atoms": 51, "value_low": 3.0, "value_high": 3.0}, "value_low=3.0 must be below"),
        ({"priorities": "rank"}, "priorities='rank' is unknown; use none or proportional"),
        ({"epsilon_final": 2.0}, "epsilon_final=2.0 must lie in"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(fields, said):
    with pytest.raises(ConfigError) as refused:
        dqn.Config(**fields)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_exploration_falls_by_env_steps():
    config = dqn.Config(epsilon_final=0.1, epsilon_steps=1_000)
    assert [config.explores_by(s) for s in (0, 500, 1_000, 9_000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])


def test_a_message_holds_what_a_round_allows_for():
    assert dqn.Config(envs_per_actor=8, unroll_length=16, replay_ratio=8, batch_size=32).groups == 32
    assert dqn.Config(envs_per_actor=1, unroll_length=4, replay_ratio=0.5, batch_size=32).groups == 1
    assert np.isclose(dqn.Config().rows_per_message, 32 * 32)
