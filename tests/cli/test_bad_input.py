# SPDX-License-Identifier: Apache-2.0
"""Every bad command gets one line, its exit code, no traceback and no JAX."""

import pytest

from cli.shell import one_line_of, refusal, shoal_each

TRAIN = ("train", "ppo", "--env", "CartPole-v1")
PROCESSES = (*TRAIN, "--engine", "processes")
APEX = ("train", "apex", "--env", "CartPole-v1")

CASES = [
    # (words, parts of the line that name the value and the remedy)
    (("trian",), ("'trian'", "nearest: train")),
    (("--verbose",), ("'--verbose'", "train, resume")),
    (("train",), ("needs an architecture", "a2c, ppo, impala")),
    (("train", "--env", "CartPole-v1"), ("architecture first", "shoal train ppo --env CartPole-v1")),
    (("train", "ppoo", "--env", "CartPole-v1"), ("'ppoo'", "ppo")),
    (("train", "rapid", "--env", "CartPole-v1"), ("'rapid'", "not work yet")),
    (("train", "ppo"), ("missing --env;",)),
    (("train", "ppo", "--env"), ("--env needs a value",)),
    (("train", "ppo", "--env", "CartPole-v2"), ("'CartPole-v2'", "nearest: CartPole-v1")),
    (("train", "ppo", "--env", "ale:pnog"), ("pnog", "ale:pong")),
    (("train", "ppo", "--env", "nowhere:Env"), ("nowhere", "no module")),
    ((*TRAIN, "--learning-rat", "1"), ("unknown field --learning-rat", "nearest: --learning-rate")),
    ((*TRAIN, "--learning_rat=1"), ("unknown field --learning-rat", "nearest: --learning-rate")),
    ((*TRAIN, "--zzz", "1"), ("unknown field --zzz", "--help")),
    ((*TRAIN, "surplus"), ("unexpected 'surplus'",)),
    ((*TRAIN, "--learning-rate", "fast"), ("'fast'", "--learning-rate FLOAT")),
    ((*TRAIN, "--env-steps", "1.5"), ("'1.5'", "--env-steps INT")),
    ((*TRAIN, "--reward-clip", "x"), ("'x'", "--reward-clip {None}|FLOAT")),
    ((*TRAIN, "--seed"), ("--seed needs a value",)),
    ((*TRAIN, "--engine", "thread"), ("'thread'", "nearest: threads")),
    ((*TRAIN, "--order", "random"), ("'random'", "free")),
    ((*TRAIN, "--optimiser", "adma"), ("'adma'", "adam")),
    ((*TRAIN, "--discount", "2"), ("discount=2.0", "--discount")),
    ((*TRAIN, "--env-steps", "0"), ("env_steps=0", "--env-steps")),
    ((*TRAIN, "--learning-rate", "nan"), ("learning_rate=nan", "--learning-rate")),
    ((*TRAIN, "--minibatches", "5000"), ("minibatches=5000", "lower --minibatches")),
    ((*TRAIN, "--env-kwargs", "{x"), ("'{x'", "is not JSON", '{"name": 1}')),
    ((*TRAIN, "--env-kwargs", "[1]"), ("no JSON object",)),
    ((*TRAIN, "--env-kwargs", '{"gravity": 1}'), ("gravity", "valid names")),
    ((*PROCESSES, "--unroll-length", "2000000000"), ("needs", "bytes", "are free", "unroll_length")),
    ((*PROCESSES, "--num-actors", "10000000"), ("10000000 worker processes need", "open files", "ulimit")),
    ((*PROCESSES, "--hang-seconds", "0"), ("hang_seconds=0.0", "--hang-seconds")),
    ((*APEX, "--replay-capacity", "1000000000000"), ("rows of CartPole-v1 need", "bytes", "--replay-capacity")),
    ((*APEX, "--n-step", "1000"), ("n_step=1000", "--n-step")),
    ((*APEX, "--eviction", "priority", "--priorities", "none"), ("eviction='priority'", "--priorities proportional")),
    (("race", "--env", "CartPole-v1", "--env-steps", "100"), ("two or more",)),
    (("race", "ppo", "--env", "CartPole-v1", "--env-steps", "100"), ("two or more",)),
    (("race", "ppo", "ppo", "--env", "CartPole-v1", "--env-steps", "100"), ("different",)),
    (("race", "ppo", "a3", "--env", "CartPole-v1", "--env-steps", "100"), ("'a3'",)),
    (("race", "ppo", "a2c", "--env", "CartPole-v1"), ("missing --env-steps;",)),
    (("resume",), ("missing RUN_DIR;",)),
    (("resume", "no-such-folder"), ("no-such-folder", "no folder")),
    (("evaluate", "."), ("holds no run",)),
    (("evaluate", ".", "--episodes", "0"), ("--episodes 0",)),
    (("report",), ("name one or more run folders",)),
    (("report", "no-such-folder"), ("no-such-folder",)),
    (("describe",), ("needs an architecture",)),
    (("describe", "impalla"), ("'impalla'", "impala")),
    (("describe", "ppo", "a2c"), ("'a2c'", "--name value")),
    (("list", "environments"), ("'environments'", "envs")),
    (("doctor", "now"), ("'now'",)),
    (("advise",), ("missing --env;",)),
    (("advise", "--env", "CartPole"), ("'CartPole'", "CartPole-v1")),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each case gets, and the folder they all ran in."""
    folder = tmp_path_factory.mktemp("bad")
    return shoal_each([words for words, _ in CASES], cwd=folder), folder


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(words) for words, _ in CASES])
def test_bad_command_gets_one_line(number, answers):
    line = one_line_of(answers[0][number])
    for part in CASES[number][1]:
        assert part in line


def test_bad_commands_write_nothing(answers):
    assert list(answers[1].iterdir()) == []


@pytest.mark.parametrize("number", [0, 6, 7, 15, 17, 19, 30], ids=lambda number: " ".join(CASES[number][0]))
def test_bad_command_in_a_process_of_its_own(number):
    """The parser draws other frames where standard output can show them; what we read out of them stays the same."""
    words, parts = CASES[number]
    line = refusal(*words)
    for part in parts:
        assert part in line


def test_a_module_that_does_not_import_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('half written')\n")
    line = refusal("train", "ppo", "--env", "broken:Env", cwd=tmp_path)
    assert "half written" in line


def test_unknown_attribute_gets_the_nearest(tmp_path):
    (tmp_path / "mine.py").write_text("class Maze:\n    def reset(self): ...\n    def step(self, action): ...\n")
    assert "mine:Maze" in refusal("train", "ppo", "--env", "mine:Mase", cwd=tmp_path)
