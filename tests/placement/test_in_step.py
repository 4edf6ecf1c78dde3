# SPDX-License-Identifier: Apache-2.0
"""Learners in step: what two of them take longer than one with its share, and what predictions make of it."""

import dataclasses

import pytest

from placement.made_up import HARDWARE, curve, point, profile
from shoal import envs
from shoal.architectures import presets
from shoal.errors import ConfigError
from shoal.placement.in_step import measure_in_step
from shoal.placement.in_step_costs import between_nodes, devices_of, on_devices_of, shares_of, summing_s
from shoal.placement.machines import MachineFacts, machine_of
from shoal.placement.merge import merge
from shoal.placement.prediction import predict
from shoal.placement.profile import InStep, read_profile, write_profile
from shoal.placement.trial import batch_trajectories
from shoal.placement.unit_costs import costs
from shoal.placement.workload import make_workload

FREE = 1e-12
MANY = MachineFacts(name="many", cores=1_000)
PROCESSES = {"num_actors": 2, "learners": 2, "learner_processes": 2}
DEVICES = {"num_actors": 2, "learners": 2, "learner_devices": 2}


def config_of(**fields):
    return dataclasses.replace(presets.preset("ppo", profile().env.spec()), **({"num_actors": 1} | fields))


CONFIG = config_of()
ROWS = CONFIG.envs_per_actor * CONFIG.unroll_length
STEPS = CONFIG.epochs * CONFIG.minibatches
UPDATE = curve(4.4e-4, 2.5e-6, (ROWS // 4, ROWS, 4 * ROWS), 2.0)
ALONE = UPDATE.at(ROWS)


def measured(devices=3.0, processes=5.0, cores=2.0, crowding=1.0):
    """A profile whose environments and acting cost nothing; updates of two learners took so many times as long as one
    with a share of theirs, on a machine of so many cores. Each learner wants two."""
    found = InStep(
        architecture="ppo", steps=STEPS, alone=point(ROWS, ALONE, 2.0),
        devices=point(ROWS, devices * ALONE, 2.0), processes=point(ROWS, processes * ALONE, 1.0),
    )  # fmt: skip
    made = profile(
        step=(FREE, 0.0), inference={"numpy": (FREE, 0.0)}, in_step=found, crowding=crowding,
        hardware=HARDWARE | {"usable_cores": cores},
    )  # fmt: skip
    return dataclasses.replace(made, update={"cpu": UPDATE})


def batch_s(made, machine=None, rows=2 * ROWS, **fields):
    found = predict(made, "ppo", machine or machine_of(made), config_of(**fields))
    return rows / found.env_steps_per_s


@pytest.mark.parametrize("cores", [2.0, 4.0, 16.0])
@pytest.mark.parametrize("crowding", [1.0, 1.5])
def test_on_the_machine_that_was_measured_two_learners_take_what_they_took(cores, crowding):
    made = measured(cores=cores, crowding=crowding)
    assert batch_s(made, **PROCESSES) == pytest.approx(5 * ALONE, rel=1e-3)
    assert batch_s(made, **DEVICES) == pytest.approx(3 * ALONE, rel=1e-3)


def test_on_more_cores_they_take_their_share_and_the_sums():
    made = measured()  # two learners of two cores each on two cores: half of what they took is for want of cores
    assert batch_s(made, MANY, **PROCESSES) == pytest.approx(2.5 * ALONE, rel=1e-3)
    assert batch_s(made, MANY, **DEVICES) == pytest.approx(1.5 * ALONE, rel=1e-3)
    quick = measured(processes=1.0)  # quicker than it could be: sums cost nothing, and no less
    assert batch_s(quick, MANY, **PROCESSES) == pytest.approx(ALONE, rel=1e-3)


def test_each_further_learner_costs_as_much_again_and_more_steps_more_sums():
    made, four = measured(), {"num_actors": 4, "learners": 4, "learner_processes": 4}
    assert summing_s(made, config_of()) == 0.0
    assert summing_s(dataclasses.replace(made, in_step=None), config_of(**DEVICES)) == 0.0
    two = summing_s(made, config_of(**PROCESSES))
    assert two == pytest.approx(1.5 * ALONE)
    assert summing_s(made, config_of(**four)) == pytest.approx(3 * two)
    assert summing_s(made, config_of(**PROCESSES, epochs=2 * CONFIG.epochs)) == pytest.approx(2 * two)


def test_learners_of_one_device_share_nothing_out():
    made, one = measured(), {"num_actors": 2, "learners": 2, "learner_devices": 1}
    assert costs(made, config_of(**one), "ppo")["update"] == costs(made, config_of(num_actors=2), "ppo")["update"]
    for fields, shares, devices in (({}, 1, 1), (one, 1, 1), (DEVICES, 2, 2), (PROCESSES, 2, 1)):
        config = config_of(**fields)
        assert (shares_of(config), devices_of(config)) == (shares, devices)


def test_devices_are_as_many_as_the_machine_gives_them():
    config = config_of(**(DEVICES | {"learner_devices": 0}))
    assert [on_devices_of(config, cores).learner_devices for cores in (1.0, 2.0, 64.0)] == [1, 2, 2]
    assert on_devices_of(config_of(**PROCESSES), 64.0).learner_devices == 0


def test_sums_between_nodes_wait_for_messages_around_a_ring():
    made, config = measured(), config_of(**PROCESSES)
    work = costs(made, config, "ppo")["update"]
    two = MachineFacts(name="two", nodes=2, cores=8, latency_s=1e-3, bytes_per_s=4e6)
    slower = between_nodes(work, made, config, two)
    one = 2 * 1e-3 + 4 * made.params / 4e6
    assert slower.seconds - work.seconds == pytest.approx(STEPS * one)
    assert slower.idle - work.idle == pytest.approx(STEPS * one)
    assert between_nodes(work, made, config, MANY) == work
    assert between_nodes(work, made, config_of(**DEVICES), two) == work
    far, near = (batch_s(made, dataclasses.replace(two, latency_s=s), **PROCESSES) for s in (1e-3, 0.0))
    assert far - near > STEPS * 2e-3  # and what their trajectories and params wait


def test_learner_processes_are_spread_over_nodes_and_the_one_that_leads_only_waits():
    two = MachineFacts(name="two", nodes=2, cores=2, latency_s=0.0, bytes_per_s=1e18)
    made = measured()
    assert batch_s(made, two, **PROCESSES) == pytest.approx(2.5 * ALONE, rel=1e-3)  # each has a node's two cores
    found = predict(made, "ppo", two, config_of(**PROCESSES))
    assert found.roles["learner"].workers == 2
    assert found.roles["learner"].busy == pytest.approx(1.0, abs=0.01)


def test_rows_are_those_of_all_actors_that_an_update_waits_for():
    assert batch_trajectories(config_of(learners=3, scaling="weak")) == 3
    assert batch_trajectories(dataclasses.replace(config_of(), num_actors=4, drop_slowest=1)) == 3


def test_what_was_not_measured_is_one_line():
    made = dataclasses.replace(measured(), in_step=None)
    with pytest.raises(ConfigError, match="learner_processes=2: this profile does not know .* --in-step --json FILE"):
        predict(made, "ppo", MANY, config_of(**PROCESSES))
    with pytest.raises(ConfigError, match="learner_processes=2 need processes"):
        predict(measured(), "ppo", MANY, config_of(**PROCESSES), engine="threads")
    nameless = make_workload("ppo", envs.resolve(lambda: __import__("gymnasium").make("CartPole-v1")), "auto")
    with pytest.raises(ConfigError, match="cannot be found by name in another process; .* leave out --in-step"):
        measure_in_step(nameless, "auto", 0.0)


def test_they_come_back_from_a_file_and_are_averaged(tmp_path):
    made, other = measured(processes=4.0), measured(processes=6.0)
    write_profile(tmp_path / "p.json", made)
    assert read_profile(tmp_path / "p.json") == made
    assert merge([made, other]).in_step.processes.mean_s == pytest.approx(5 * ALONE)
    assert merge([dataclasses.replace(made, in_step=None), made]).in_step == made.in_step
    assert merge([dataclasses.replace(made, in_step=None)] * 2).in_step is None
    unlike = dataclasses.replace(made, in_step=dataclasses.replace(made.in_step, architecture="a2c"))
    with pytest.raises(ConfigError, match="learners in step had updates of"):
        merge([made, unlike])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ppo", "impala"])
def test_two_learners_are_timed_on_devices_and_in_processes(architecture):
    workload = make_workload(architecture, envs.resolve("CartPole-v1"), "auto")
    found = measure_in_step(workload, "auto", 0.2)
    assert found.architecture == {"impala": "a2c"}.get(architecture, architecture)
    preset = presets.preset(found.architecture, workload.spec)
    assert {p.size for p in (found.alone, found.devices, found.processes)} == {
        preset.envs_per_actor * preset.unroll_length
    }
    assert found.steps == getattr(preset, "epochs", 1) * getattr(preset, "minibatches", 1)
    assert min(p.mean_s for p in (found.alone, found.devices, found.processes)) > 0
    assert min(p.calls for p in (found.alone, found.devices, found.processes)) >= 4
