# SPDX-License-Identifier: Apache-2.0
"""`shoal predict`: from a profile on disk to a printed prediction, and what it refuses in one line."""

import json

import pytest

from placement.made_up import HARDWARE, profile
from shoal import __version__
from shoal.cli import predict as command
from shoal.cli.main import main
from shoal.placement.profile import write_profile
from shoal.records import hardware


@pytest.fixture
def path(tmp_path):
    """A profile's file."""
    write_profile(tmp_path / "p.json", profile())
    return str(tmp_path / "p.json")


def test_a_prediction_is_printed(path, capsys):
    assert command.run(["impala", "--profile", path, "--machine", "laptop", "--num-actors", "3"]) == 0
    out = capsys.readouterr().out
    for words in (
        "impala on Made-Up-v0 with num_actors=3",
        "laptop: 8 cores",
        "simulated, not run",
        "steps/s",
        "limit:",
    ):
        assert words in out
    assert "actor x3" in out
    assert "TRAJ actor>learner" in out


def test_a_curve_over_actors_and_nodes(path, capsys):
    words = ["impala", "--profile", path, "--machine", "4x32", "--over", "num_actors=1,2,4", "--env-times", "10"]
    assert command.run(words) == 0
    out = capsys.readouterr().out
    assert "4 nodes of 32 cores" in out
    rows = [line.split() for line in out.splitlines() if line.split()[:1] in (["1"], ["2"], ["4"])]
    assert len(rows) == 3


def test_what_was_predicted_is_written(path, tmp_path, capsys):
    file = tmp_path / "found.json"
    words = ["a2c", "--profile", path, "--machine", "laptop", "--over", "num_actors=1,2", "--json", str(file)]
    assert command.run(words) == 0
    found = json.loads(file.read_text())
    assert found["prediction"]["architecture"] == "a2c"
    assert found["prediction"]["env_steps_per_s"] > 0
    assert [one["settings"].get("num_actors", 1) for one in found["curve"]] == [1, 2]
    assert str(file) in capsys.readouterr().out


def test_accelerators_are_called_modelled_in_print_and_in_the_file(path, tmp_path, capsys):
    file = tmp_path / "found.json"
    words = ["seed", "--profile", path, "--machine", "2x8+2xa100", "--act-on", "gpu", "--learn-on", "cpu"]
    assert command.run([*words, "--num-actors", "2", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    for said in (
        "2 nodes of 8 cores and 2 a100",
        "acting on gpu1 (as asked: 16 observations take ",
        "learning on cores (as asked: ",
        "ms modelled on a device)",
        "a100 is modelled, not measured: NVIDIA A100 40 GB: 156 TFLOP/s TF32 x 0.1",
        "launch, efficiency and faster links assumed",
    ):
        assert said in out
    found = json.loads(file.read_text())["prediction"]
    assert found["machine"]["device"] == "a100"
    assert found["places"]["figures"] == "modelled"
    assert found["places"]["act"]["on"] == "gpu"
    assert found["places"]["constants"].startswith("NVIDIA A100")
    assert set(found["places"]["sources"]) == {"peak, memory", "link", "launch", "fused", "efficiency"}


def test_a_profile_of_a_machine_with_a_card_is_read_anywhere(tmp_path, capsys):
    hardware = HARDWARE | {"devices": [{"platform": "gpu", "kind": "NVIDIA T4", "id": 0}]}
    made = profile(
        inference={"numpy": (10e-6, 1e-6), "gpu": (200e-6, 1e-7)},
        update={"cpu": (4e-4, 1e-4), "gpu": (1e-3, 1e-7)},
        hardware=hardware,
    )
    write_profile(tmp_path / "p.json", made)
    assert command.run(["impala", "--profile", str(tmp_path / "p.json")]) == 0
    out = capsys.readouterr().out
    assert "learning on gpu0 (the cheaper: " in out
    assert "acting on cores (the cheaper: " in out
    assert "gpu is measured: by the profile" in out
    assert "modelled" not in out


def test_a_profile_of_another_machine_is_told(path, capsys):
    assert command.run(["ppo", "--profile", path]) == 0
    told = capsys.readouterr().err
    assert told.startswith("note: measured with ")
    assert f"processor {HARDWARE['cpu_model']} (here" in told


def test_one_of_this_machine_is_not(tmp_path, capsys):
    write_profile(tmp_path / "p.json", profile(hardware=hardware.describe(), shoal=__version__))
    assert command.run(["ppo", "--profile", str(tmp_path / "p.json")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs an architecture: a2c, ppo"),
        (["dqn"], "this profile has no costs of dqn's parts"),
        (["ppo", "--engine", "ray"], "this profile has no costs of the engine ray; measure them with shoal advise"),
        (["ppq"], "architecture 'ppq' is unknown"),
        (["ppo", "--machine", "cray"], "machine 'cray' is unknown"),
        (["ppo", "--machine", "2x0"], "cores=0; it must be above 0"),
        (["ppo", "--machine", "laptop+1xa10"], "machine laptop+1xa10 has an unknown device 'a10'; nearest: a100"),
        (["ppo", "--machine", "cray+1xa100"], "machine 'cray' is unknown"),
        (["ppo", "--machine", "laptop+0xa100", "--act-on", "gpu"], "has no accelerator"),
        (["ppo", "--machine", "laptop", "--learn-on", "gpu"], "--learn-on gpu: machine laptop has no accelerator"),
        (["ppo", "--act-on", "tpu"], "tpu"),
        (["ppo", "--env-times", "0"], "--env-times 0.0 must be above 0"),
        (["ppo", "--over", "clip=1,2"], "'clip' is no field of whole numbers"),
        (["ppo", "--over", "num_actors=1"], "needs two values or more, growing"),
        (["ppo", "--over", "num_actors=1,x"], "has no whole numbers after ="),
        (["ppo", "--num-actors", "0"], "num_actors=0 must be above 0"),
        (["ppo", "--json", "/nowhere/found.json"], "--json /nowhere/found.json cannot be written"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(words, said, path, capsys):
    assert main(["predict", *words, *(["--profile", path] if words else [])]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


def test_a_missing_and_a_broken_profile_are_one_line(tmp_path, capsys):
    broken = tmp_path / "p.json"
    broken.write_text("{")
    assert main(["predict", "ppo"]) == 2
    assert "--profile" in capsys.readouterr().err
    for path in (broken, tmp_path / "gone.json"):
        assert main(["predict", "ppo", "--profile", str(path)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_help_lists_fields(capsys):
    assert main(["predict", "--help"]) == 0
    assert "architectures: a2c, ppo" in capsys.readouterr().out
    assert main(["predict", "impala", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--num-actors" in out
    assert "--machine" in out
