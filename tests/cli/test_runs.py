# SPDX-License-Identifier: Apache-2.0
"""Commands on real runs: what they leave, what they answer, and what faults in the middle of a run do."""

import json
import shutil

import pytest

from cli.shell import one_line_of, shoal, shoal_each
from shoal.cli.main import main

SMALL = ("--env-steps", "512", "--unroll-length", "16", "--envs-per-actor", "4", "--minibatches", "2", "--epochs", "1")

ENVIRONMENTS = """
import gymnasium, numpy as np

class Sound(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def observe(self):
        return np.zeros(3, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        return self.observe(), 1.0, self.count == 5, False, {}

class RaisesInStep(Sound):
    def step(self, action):
        if self.count == 3:
            raise RuntimeError("the simulator lost its licence")
        return super().step(action)

class RaisesInReset(Sound):
    def reset(self, **settings):
        raise OSError("no display")

class NanObs(Sound):
    def step(self, action):
        return (self.observe() * np.nan, *super().step(action)[1:])

class NanReward(Sound):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return (obs, float("nan"), *rest)

class NoObs(Sound):
    def step(self, action):
        return (None, *super().step(action)[1:])

class FourValues(Sound):
    def step(self, action):
        return super().step(action)[:4]

class WrongShape(Sound):
    def step(self, action):
        return (np.zeros(4, np.float32), *super().step(action)[1:])

class WrongDtype(Sound):
    def step(self, action):
        return (np.array(["a", "b", "c"]), *super().step(action)[1:])
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A small finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", "ppo", "--env", "CartPole-v1", *SMALL, "--run-dir", str(folder)]) == 0
    return folder


def test_a_run_leaves_everything(run_dir):
    names = {"config.json", "hardware.json", "metrics.jsonl", "flow.json", "log.txt", "checkpoints", "report.html"}
    assert names <= {path.name for path in run_dir.iterdir()}
    config = json.loads((run_dir / "config.json").read_text())
    assert config["command"][:3] == ["shoal", "train", "ppo"]
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["env_steps"] >= 512


def test_train_says_where_the_run_and_its_report_are(tmp_path):
    answer = shoal(
        "train", "a2c", "--env", "CartPole-v1", "--env-steps", "256", "--run-dir", "here", jax=True, cwd=tmp_path
    )
    assert answer.code == 0, answer
    assert "here" in answer.out
    assert "report.html" in answer.out


@pytest.mark.parametrize(("at_least", "code"), [("1", 0), ("1e9", 1)])
def test_evaluate_says_by_its_exit_code_whether_the_return_was_met(run_dir, at_least, code, tmp_path, capsys):
    file = tmp_path / "found.json"
    words = ["evaluate", str(run_dir), "--episodes", "3", "--at-least", at_least, "--json", str(file)]
    assert main(words) == code
    assert ("at least" if code == 0 else "below") in capsys.readouterr().out
    assert len(json.loads(file.read_text())["returns"]) == 3


def test_resume_of_a_finished_run_and_report(run_dir, tmp_path, capsys):
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    assert main(["resume", str(copy)]) == 0
    page = tmp_path / "page.html"
    assert main(["report", str(copy), "--out", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.read_text().lstrip().lower().startswith("<!doctype html")


def test_race_prints_one_line_for_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["race", "a2c", "impala", "--env", "CartPole-v1", "--env-steps", "600", "--run-dir", "both"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.lstrip().startswith(("a2c", "impala")) for line in lines) >= 2
    assert {path.name for path in (tmp_path / "both").iterdir()} >= {"a2c", "impala"}


def test_describe_counts_what_crosses():
    answer = shoal("describe", "impala")
    assert answer.code == 0, answer
    assert "TRAJ actor>learner" in answer.out.partition("simulated time")[2]


def test_doctor_is_content_here(capsys):
    assert main(["doctor"]) == 0
    assert "shoal can run here" in capsys.readouterr().out


def fault_line(capsys, words, code) -> str:
    """The one line on standard error of a command run in this process."""
    assert main(words) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("shoal: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RaisesInStep", "lost its licence"),
        ("RaisesInReset", "no display"),
        ("NanObs", "obs"),
        ("NanReward", "reward"),
        ("NoObs", "obs"),
        ("FourValues", "4"),
        ("WrongShape", "shape"),
        ("WrongDtype", "dtype"),
    ],
)
def test_a_broken_environment_is_named_in_one_line(name, reason, tmp_path, monkeypatch, capsys):
    module = f"broken_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(ENVIRONMENTS)
    monkeypatch.chdir(tmp_path)
    line = fault_line(capsys, ["train", "ppo", "--env", f"{module}:{name}", *SMALL], 3)
    assert f"{module}:{name}" in line
    assert reason in line


@pytest.mark.parametrize("content", ["config.json", "notes.txt"])
def test_a_folder_in_use_is_left_alone(content, tmp_path, capsys):
    (tmp_path / content).write_text("{}")
    line = fault_line(capsys, ["train", "ppo", "--env", "CartPole-v1", "--run-dir", str(tmp_path)], 2)
    assert str(tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == [content]
    assert (tmp_path / content).read_text() == "{}"


def test_an_unwritable_folder_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["train", "ppo", "--env", "CartPole-v1", "--run-dir", str(tmp_path / "file" / "run")]
    assert "cannot be written" in fault_line(capsys, words, 2)


def test_no_valid_checkpoint_has_its_own_exit_code(run_dir, tmp_path, capsys):
    copy = shutil.copytree(run_dir, tmp_path / "copy")
    for file in (copy / "checkpoints").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-7])
    for command in (["evaluate", str(copy)], ["resume", str(copy)]):
        assert "checkpoint" in fault_line(capsys, command, 4)


def test_impossible_settings_leave_no_folder(tmp_path):
    settings = (("--stop-minutes", "0"), ("--stop-return", "nan"))
    answers = shoal_each([("train", "ppo", "--env", "CartPole-v1", *words) for words in settings], cwd=tmp_path)
    for (flag, _), answer in zip(settings, answers, strict=True):
        assert flag.strip("-").replace("-", "_") in one_line_of(answer)
    assert list(tmp_path.iterdir()) == []
