# SPDX-License-Identifier: Apache-2.0
"""The run folder: made once, refused when it is somebody else's, readable later."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from shoal.errors import ConfigError
from shoal.records import hardware
from shoal.records.run_dir import RunDir, default_name


@dataclass(frozen=True)
class Settings:
    num_actors: int = 2
    rate: float = 3e-4


def started(path: Path) -> RunDir:
    run = RunDir.create(path, "ppo", "CartPole-v1", 0)
    run.write_config("ppo", "CartPole-v1", 0, Settings(), ["shoal", "train", "ppo"], engine="threads")
    return run


def refusal(call, *args) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_config_comes_back_with_all_that_repeats_the_run(tmp_path: Path) -> None:
    started(tmp_path / "a" / "b")
    facts = RunDir.open(tmp_path / "a" / "b").read_config()
    assert facts["config"] == {"num_actors": 2, "rate": 3e-4}
    assert (facts["architecture"], facts["env"], facts["seed"], facts["engine"]) == ("ppo", "CartPole-v1", 0, "threads")
    assert facts["command"] == ["shoal", "train", "ppo"]
    assert facts["libraries"]["numpy"] and facts["python"] and "git_commit" in facts


def test_default_name_is_safe_for_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for env in ("ale:pong", "../../etc", "my_pkg.mod:Env", "<script>", "x" * 500, "…"):
        assert re.fullmatch(r"impala-[A-Za-z0-9._-]+-3-\d{8}-\d{6}", default_name("impala", env, 3))
    first, second = (RunDir.create(None, "impala", "ale:pong", 3) for _ in range(2))
    assert first.path.parent == Path("runs") and first.path != second.path


def test_a_folder_with_a_run_or_with_anything_is_refused(tmp_path: Path) -> None:
    started(tmp_path / "run")
    assert "shoal resume" in refusal(RunDir.create, tmp_path / "run", "ppo", "x", 0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    assert "not empty" in refusal(RunDir.create, tmp_path / "other", "ppo", "x", 0)
    (tmp_path / "empty").mkdir()
    RunDir.create(tmp_path / "empty", "ppo", "x", 0)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", "/proc/nowhere/run"):
        assert "--run-dir" in refusal(RunDir.create, path, "ppo", "x", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "permission denied" in refusal(RunDir.create, tmp_path / "locked" / "run", "ppo", "x", 0)


def test_opening_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "no folder" in refusal(RunDir.open, tmp_path / "nothing")
    assert "no run" in refusal(RunDir.open, tmp_path)
    for text in ("", "[]", "{}", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        assert "config.json" in refusal(RunDir.open, tmp_path)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    held = run.claim()
    assert "another process" in refusal(run.claim)
    os.close(held)
    os.close(run.claim())


def test_log_lines_are_single_and_stamped(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    run.log("started\nnow \udcff")
    run.log("ended")
    lines = run.log_path.read_text().splitlines()
    assert len(lines) == 2 and lines[0].partition(" ")[2].startswith("started now")


def test_hardware_states_what_this_process_may_use(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    run.write_hardware([{"platform": "cpu", "kind": "cpu", "id": 0}])
    facts = json.loads(run.hardware_path.read_text())
    assert 0 < facts["usable_cores"] <= facts["cores"]
    assert facts["memory_bytes"] > 0 and facts["cpu_model"] and facts["devices"][0]["platform"] == "cpu"


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "1073741824"}, 1.5, 2**30),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
        ({}, None, None),
    ],
)
def test_container_limits(tmp_path: Path, files: dict[str, str], cores: float | None, memory: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert hardware.cgroup_cores(tmp_path) == cores
    assert hardware.cgroup_memory_bytes(tmp_path) == memory
