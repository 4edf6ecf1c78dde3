# SPDX-License-Identifier: Apache-2.0
"""Accelerators in predictions: the model's closed forms, XLA's counts against counting by hand, and who is on which."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from placement.made_up import HARDWARE, profile, trace
from shoal import envs
from shoal.architectures import presets
from shoal.errors import ConfigError
from shoal.placement.accelerators import (
    ACCELERATORS,
    EFFICIENCY,
    FUSED,
    LAUNCH_S,
    LINKS,
    SOURCES,
    STEP_TOUCHES,
    acting_s,
    call_s,
    learning_s,
)
from shoal.placement.arithmetic import BACKWARDS, count_flops
from shoal.placement.devices import on_devices, places
from shoal.placement.machines import MachineFacts, machine_named
from shoal.placement.prediction import predict
from shoal.placement.profile import Flops
from shoal.placement.render_prediction import render
from shoal.placement.unit_costs import costs
from shoal.placement.workload import make_workload

T4 = ACCELERATORS["t4"]
LARGE = Flops(act=2e9, act_bytes=1e6, gradient=6e9, gradient_bytes=3e6)
"""a network for which cores take long"""
SLOW = {"inference": {"cpu": (1e-3, 10e-3)}, "update": {"cpu": (1e-3, 30e-3)}, "flops": LARGE}
MEASURED = {
    "inference": {"numpy": (10e-6, 1e-3), "gpu": (200e-6, 1e-6)},
    "update": {"cpu": (4e-4, 1e-4), "gpu": (1e-3, 1e-7)},
    "hardware": HARDWARE | {"devices": [{"platform": "gpu", "kind": "NVIDIA T4", "id": i} for i in range(2)]},
}


def config_of(architecture, **fields):
    return dataclasses.replace(presets.preset(architecture, profile().env.spec()), **fields)


def placed(made, config, machine, **asked):
    return places(made, config, machine, costs(made, config, speed=machine.speed), **asked)


def test_a_memory_s_learner_is_modelled_by_its_minibatches_and_gradients_of_workers_stay_on_cores():
    machine = machine_named("workstation+1xt4", profile())
    dqn = config_of("dqn")
    made = dataclasses.replace(profile(**SLOW), traces=(trace("dqn", update=1e-2), trace("a3c")))
    found = predict(made, "dqn", machine, dataclasses.replace(dqn, replay_capacity=5_000), whole_unrolls=True)
    rows, steps = dqn.groups * dqn.batch_size, dqn.groups
    expected = learning_s(T4, LARGE, made.params, made.env.obs_bytes + 32, rows=rows, passes=1, steps=steps)
    assert (found.places.learn.on, found.places.learn.size) == ("gpu", rows)
    assert found.places.learn.gpu_s == pytest.approx(expected)
    assert predict(made, "a3c", machine, config_of("a3c", pushes_per_visit=5)).places.learn.on == "cpu"
    with pytest.raises(ConfigError, match="--learn-on gpu: how long this architecture's learning takes there"):
        predict(made, "a3c", machine, config_of("a3c"), learn_on="gpu")


def test_a_call_takes_its_launches_and_the_longest_of_what_it_does():
    assert call_s(T4, 0, 0, 0) == LAUNCH_S
    assert call_s(T4, 0, 0, 0, launches=3) == pytest.approx(3 * LAUNCH_S)
    computing, moving = 0.3 * 8.1e12, 320e9
    assert call_s(T4, computing, 0, 0) == pytest.approx(LAUNCH_S + 1)
    assert call_s(T4, computing, 2 * moving, 0) == pytest.approx(LAUNCH_S + 2)
    assert call_s(T4, computing, moving, 11e9) == pytest.approx(LAUNCH_S + 2)


def test_a_larger_batch_takes_longer_by_its_rows_alone():
    one, two = (acting_s(T4, LARGE, 1000, 100, batch) for batch in (1000, 3000))
    assert two - one == pytest.approx(2000 * (LARGE.act / (0.3 * T4.peak) + 100 / 11e9))


def test_twice_the_passes_take_twice_as_long_but_for_the_transfer():
    one, two = (learning_s(T4, LARGE, 1000, 100, rows=512, passes=n, steps=4 * n) for n in (1, 2))
    sent = 512 * 100 / 11e9
    assert two - sent == pytest.approx(2 * (one - sent))


def test_half_of_the_bytes_of_a_network_that_reads_much_count():
    reads = Flops(act=0, act_bytes=1e6, gradient=0, gradient_bytes=3e6)
    assert acting_s(T4, reads, 0, 0, 100) == pytest.approx(LAUNCH_S + FUSED * 1e8 / T4.bytes_per_s)


def test_params_are_touched_in_every_step():
    none = Flops(act=0, act_bytes=0, gradient=0, gradient_bytes=0)
    seconds = learning_s(T4, none, 10**9, 0, rows=1, passes=1, steps=2)
    assert seconds == pytest.approx(2 * (LAUNCH_S + STEP_TOUCHES * 4e9 / T4.bytes_per_s))


def test_xla_counts_what_a_perceptron_takes():
    """Two towers of 64-64 on 4 numbers, 2 actions and a value; acting asks the policy's alone."""
    found = count_flops(make_workload("ppo", envs.resolve("CartPole-v1"), "auto"))
    policy = 2 * (4 * 64 + 64 * 64 + 64 * 2)
    towers = policy + 2 * (4 * 64 + 64 * 64 + 64)
    assert policy < found.act < 1.05 * policy
    assert 2.5 * towers < found.gradient < 3.3 * towers
    assert found.act_bytes > 4 * (4 + 64 + 64 + 2)
    assert found.gradient_bytes > found.act_bytes


def test_a_loop_over_time_is_not_counted_once():
    found = count_flops(make_workload("impala", envs.resolve("CartPole-v1"), "lstm"))
    assert found.gradient == BACKWARDS * found.act


def test_stages_go_where_a_call_costs_less_or_where_they_are_sent():
    config, machine = config_of("impala"), machine_named("workstation+1xt4", profile())
    cheap = placed(profile(), config, machine)
    assert (cheap.act.on, cheap.figures) == ("cpu", "modelled")
    dear = placed(profile(**SLOW), config, machine)
    assert (dear.act.on, dear.learn.on) == ("gpu", "gpu")
    assert dear.act.gpu_s < dear.act.cpu_s
    sent = placed(profile(**SLOW), config, machine, act_on="cpu", learn_on="cpu")
    assert (sent.act.device, sent.learn.device) == (None, None)
    assert sent.act.asked


def test_without_accelerators_everything_is_on_cores():
    made, config, machine = profile(), config_of("impala"), machine_named("laptop", profile())
    found = placed(made, config, machine)
    assert (found.act.on, found.learn.on, found.act.gpu_s, found.figures) == ("cpu", "cpu", None, None)
    table = costs(made, config)
    assert on_devices(table, made, config, machine, found) == table
    with pytest.raises(ConfigError, match=r"--learn-on gpu: machine laptop has no accelerator; .* laptop\+1xa100"):
        placed(made, config, machine, learn_on="gpu")


@pytest.mark.parametrize(("machine", "acting"), [("32x8+1xt4", "gpu0"), ("1x32+2xt4", "gpu1")])
def test_a_server_has_a_device_of_its_own_where_there_are_several(machine, acting):
    found = predict(profile(**SLOW), "seed", machine_named(machine, profile()), config_of("seed", num_actors=4))
    assert (found.places.act.device, found.places.learn.device) == (acting, "gpu0")
    assert any(name.startswith(f"device {acting}") for name in found.shared)
    assert found.places.act.size == 4 * config_of("seed").envs_per_actor


def test_one_device_does_one_thing_after_the_other():
    """Acting on 4 x 8 observations and learning share a card: its share is what both take of it."""
    made, config = profile(**SLOW), config_of("seed", num_actors=4, unroll_length=20)
    one, two = (predict(made, "seed", machine_named(f"1x1000+{n}xt4", made), config) for n in (1, 2))
    both = two.shared["device gpu0"] / two.env_steps_per_s + two.shared["device gpu1"] / two.env_steps_per_s
    assert one.shared["device gpu0"] / one.env_steps_per_s == pytest.approx(both, rel=0.05)
    assert two.env_steps_per_s > one.env_steps_per_s


def test_an_update_on_a_device_takes_what_the_model_says():
    made, config = profile(step=(1e-9, 0.0), **SLOW), config_of("a2c", num_actors=1, envs_per_actor=8, unroll_length=64)
    found = predict(made, "a2c", machine_named("1x8+1xt4", made), config)
    seconds = found.places.learn.gpu_s + 64 * found.places.act.gpu_s
    assert 1 / found.updates_per_s == pytest.approx(seconds, rel=1e-3)
    assert found.shared["device gpu0"] == pytest.approx(1.0, abs=1e-3)
    assert "device gpu0" in found.limit or "learner" in found.limit


def test_a_profile_of_a_machine_with_a_card_is_used_as_measured():
    made = profile(**MEASURED)
    here = machine_named("here", made)
    assert (here.devices, here.device, here.measured) == (2, "gpu", True)
    found = predict(made, "impala", here, config_of("impala"))
    assert found.places.figures == "measured"
    assert found.places.act.gpu_s == pytest.approx(made.inference["gpu"].at(8))
    rows = found.places.learn.size
    assert found.places.learn.gpu_s == pytest.approx(made.update["gpu"].at(rows) / 4)  # measured with PPO's four passes
    said = render(made, found)
    assert "gpu is measured" in said
    assert "modelled" not in said
    elsewhere = predict(made, "impala", machine_named("laptop+1xt4", made), config_of("impala"))
    assert elsewhere.places.figures == "modelled"


def test_modelled_figures_are_called_so_with_constants_and_sources():
    made = profile(**SLOW)
    said = render(made, predict(made, "impala", machine_named("laptop+1xrtx4090", made), config_of("impala")))
    assert "rtx4090 is modelled, not measured" in said
    for constant in ("82.6 TFLOP/s TF32 x 0.1", "24 GB at 1008 GB/s", "link 25 GB/s", "launch 100 us", "by data sheet"):
        assert constant in said
    assert "modelled" not in render(made, predict(made, "impala", machine_named("laptop", made), config_of("impala")))


def test_what_processes_need_in_order_to_share_a_card_is_told():
    made, machine, config = profile(**SLOW), machine_named("laptop+1xt4", profile()), config_of("impala", num_actors=2)
    words = "act on cores unless told: --device-memory-frac 0.3"
    assert words in render(made, predict(made, "impala", machine, config))
    assert words not in render(made, predict(made, "impala", machine, config, engine="threads"))
    assert words not in render(made, predict(made, "impala", machine, config, act_on="cpu"))
    given = dataclasses.replace(config, device_memory_frac=0.2)
    assert words not in render(made, predict(made, "impala", machine, given))


def test_a_batch_that_the_card_cannot_hold_is_told():
    made = dataclasses.replace(profile(), params=2 * 10**9)
    said = render(made, predict(made, "impala", machine_named("laptop+1xt4", made), config_of("impala")))
    assert "more than the memory of one t4" in said


def test_devices_by_shape_and_file(tmp_path):
    made = profile()
    four = machine_named("4x32+8xa100", made)
    assert (four.nodes, four.cores, four.devices, four.device) == (4, 32, 8, "a100")
    assert "8 a100" in four.words
    assert machine_named("here+1xt4", made).cores == made.cores
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cores": 12, "devices": 2, "device": "h100"}))
    assert machine_named(str(path), made) == MachineFacts(name=str(path), cores=12, devices=2, device="h100")
    assert machine_named(f"{path}+1xt4", made).device == "t4"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"devices": 1, "device": "a10"}, "unknown device 'a10'; nearest: a100"),
        ({"devices": 1, "device": 7}, "unknown device '7'; use t4, v100"),
        ({"devices": 1}, "has devices but no kind; add device, one of t4"),
        ({"devices": -1, "device": "t4"}, "devices=-1; it must be a whole number, 0 or more"),
        ({"devices": 1.5, "device": "t4"}, "devices=1.5; it must be a whole number"),
        ({"device": "t4", "divices": 1}, "unknown field 'divices'; nearest: devices"),
    ],
)
def test_devices_that_cannot_be_are_told_in_one_line(data, said, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cores": 4} | data))
    with pytest.raises(ConfigError, match=said) as told:
        machine_named(str(path), profile())
    assert "\n" not in str(told.value)


def test_the_documents_tables_are_the_codes():
    text = (Path(__file__).parents[2] / "docs" / "prediction.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    for name, a in ACCELERATORS.items():
        figures = (a.peak / 1e12, a.memory_bytes / 1e9, a.bytes_per_s / 1e9)
        assert [name, a.title, a.arithmetic, *(f"{x:g}" for x in figures), a.link] in rows
    constants = {row[0]: row for row in rows}
    assert constants["link"][1] == ", ".join(f"{name}: {speed / 1e9:g} GB/s" for name, speed in LINKS.items())
    assert constants["fused"][1] == f"{FUSED:g} of the bytes"
    assert constants["launch"][1] == f"{LAUNCH_S * 1e6:g} us"
    assert constants["efficiency"][1] == ", ".join(f"{name}: {share:g}" for name, share in EFFICIENCY.items())
    assert set(SOURCES) <= set(constants)
    for word in ("launch", "link", "efficiency"):
        assert "assumption" in SOURCES[word]
        assert re.search("assumption", constants[word][2])
