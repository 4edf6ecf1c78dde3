# SPDX-License-Identifier: Apache-2.0
"""flow.json: segments over resumes, and their sum."""

from pathlib import Path

import pytest

from shoal.errors import ConfigError
from shoal.records.flow import FlowRecord, merged_rows, merged_seconds, read_flow


def ledger_row(count: int, lag_mean: float | None, lag_max: int | None, message: str = "TRAJ") -> dict:
    return {
        "system": "impala",
        "source": "actor",
        "target": "learner",
        "message": message,
        "via": "thread",
        "count": count,
        "bytes": 100 * count,
        "lag_mean": lag_mean,
        "lag_max": lag_max,
    }


def test_one_segment_gives_its_own_rows_back(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    rows = [ledger_row(3, 1.5, 2), ledger_row(1, None, None, "PARAM")]
    record = FlowRecord(path, "impala")
    record.write([], {}, {}, env_steps=10)
    record.write(rows, {"actor": {"act": 1.0}}, {"learner": {"get TRAJ": 0.5}}, env_steps=20)
    flow = read_flow(path)
    assert flow["architecture"] == "impala"
    assert len(flow["segments"]) == 1 and flow["segments"][0]["to_env_steps"] == 20
    assert merged_rows(flow) == rows
    assert merged_seconds(flow, "waits") == {"learner": {"get TRAJ": 0.5}}


def test_resume_adds_a_segment_and_sums_add_up(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    FlowRecord(path, "impala").write([ledger_row(3, 1.0, 2)], {"actor": {"act": 1.0}}, {}, env_steps=20)
    second = [ledger_row(1, 5.0, 9), ledger_row(2, None, None, "PARAM")]
    FlowRecord(path, "impala", from_env_steps=20).write(second, {"actor": {"act": 2.0, "env_step": 1.0}}, {}, 30)
    flow = read_flow(path)
    assert [segment["from_env_steps"] for segment in flow["segments"]] == [0, 20]
    assert merged_rows(flow) == [ledger_row(4, 2.0, 9), ledger_row(2, None, None, "PARAM")]
    assert merged_seconds(flow, "phases") == {"actor": {"act": 3.0, "env_step": 1.0}}


def test_lag_is_weighted_by_messages_that_have_one(tmp_path: Path) -> None:
    flow = {"segments": [{"rows": [ledger_row(4, None, None)]}, {"rows": [ledger_row(2, 3.0, 3)]}]}
    assert merged_rows(flow)[0] | {"bytes": 0} == ledger_row(6, 3.0, 3) | {"bytes": 0}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"segments": [1]}', '{"segments": [{"rows": 3}]}', "[" * 100_000])
def test_files_that_are_no_flow_are_named_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flow.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a flow record") as caught:
        read_flow(path)
    assert "\n" not in str(caught.value)
