# SPDX-License-Identifier: Apache-2.0
"""Predictions: closed forms where there are any, the limit by its name, and machines that cannot be."""

import dataclasses
import json

import pytest

from placement.made_up import curve, profile, trace
from shoal.architectures import presets, registry
from shoal.errors import ConfigError
from shoal.placement.machines import MachineFacts, machine_named
from shoal.placement.messages import Passing
from shoal.placement.prediction import BY_LEARNER, over, predict
from shoal.placement.render_prediction import marginal, render, render_over

MANY = MachineFacts(name="many", cores=1_000)
BUSY = {"step": (0.0, 1e-3), "step_cores": 1.0, "gain": 1.0}
SLEEPS = {"step": (0.0, 20e-3), "step_cores": 0.0, "gain": 2.0}


def config_of(architecture, **fields):
    return dataclasses.replace(presets.preset(architecture, profile().env.spec()), **fields)


def learner_of(rows_per_s):
    """A profile's update curve whose learner takes so many rows a second, whatever the batch, on one core."""
    return curve(0.0, 1 / rows_per_s, (256, 1024, 4096), 1.0)


def with_learner(rows_per_s, **made):
    """A profile of IMPALA's learner."""
    return dataclasses.replace(profile(**made), architecture="impala", update={"cpu": learner_of(rows_per_s)})


def test_on_one_core_lock_step_takes_the_sum_of_all_that_is_computed():
    one = MachineFacts(name="one", cores=1)
    config = config_of("a2c", num_actors=4, envs_per_actor=2, unroll_length=16)
    made = with_learner(1e4, **BUSY)
    found = predict(made, "a2c", one, config)
    rows = 4 * 2 * 16
    seconds = rows * 1e-3 + 4 * 16 * (10e-6 + 2e-6) + rows / 1e4
    assert found.env_steps_per_s == pytest.approx(rows / seconds, rel=1e-3)
    assert found.shared["cores"] == pytest.approx(1.0, abs=1e-3)
    assert "cores" in found.limit
    assert (found.lag_mean, found.lag_max) == (0.0, 0)


def test_processes_have_an_interpreter_each_and_threads_share_one():
    made = with_learner(1e6, **BUSY)
    one, two = config_of("a2c", num_actors=1, envs_per_actor=2), config_of("a2c", num_actors=2, envs_per_actor=1)
    alone = predict(made, "a2c", MANY, one).env_steps_per_s
    assert predict(made, "a2c", MANY, two, engine="processes").env_steps_per_s > 1.9 * alone
    assert predict(made, "a2c", MANY, two, engine="threads").env_steps_per_s < 1.1 * alone


def test_sleepers_add_up_on_one_core():
    made, one = with_learner(1e6, **SLEEPS), MachineFacts(name="one", cores=1)
    few, many = (predict(made, "a2c", one, config_of("a2c", num_actors=n, envs_per_actor=1)) for n in (1, 16))
    assert many.env_steps_per_s == pytest.approx(16 * few.env_steps_per_s, rel=0.05)


def impala(actors, rows_per_s=5_000, **how):
    config = config_of(
        "impala", num_actors=actors, envs_per_actor=1, unroll_length=20, batch_trajectories=4, queue_slots=4
    )
    return predict(with_learner(rows_per_s, **BUSY), "impala", MANY, config, **how)


def test_impala_is_as_fast_as_its_actors_until_the_learner_is_full():
    """r_actor is 1 / (1 ms + 11 us); r_learner 5,000: the curve bends between 5 and 6 actors."""
    actor = 1 / (1e-3 + 11e-6)
    for actors in (2, 4):
        assert impala(actors).env_steps_per_s == pytest.approx(actors * actor, rel=0.02)
        assert impala(actors).limit.startswith("actors")
    for actors in (6, 12, 40):
        found = impala(actors, whole_unrolls=True)
        assert found.env_steps_per_s == pytest.approx(5_000, rel=0.02)
        assert found.limit.startswith("the learner")


@pytest.mark.parametrize("actors", [2, 6, 12, 40])
def test_lag_is_what_the_queue_and_the_actors_hold(actors):
    found = impala(actors)
    assert found.lag_max <= -(-(4 + actors) // 4) + 1  # reference formula: ceil((queue + in flight) / batch) + 1
    if actors >= 12:
        assert found.lag_mean >= actors / 4 - 1


def test_whole_unrolls_give_what_steps_give():
    assert impala(4, whole_unrolls=True).env_steps_per_s == pytest.approx(impala(4).env_steps_per_s, rel=0.01)
    assert impala(12, whole_unrolls=True).lag_mean == pytest.approx(impala(12).lag_mean, rel=0.1)


def test_a_full_link_is_named():
    config = config_of("impala", num_actors=8, envs_per_actor=1, unroll_length=20, batch_trajectories=4)
    made = with_learner(1e6, **BUSY)
    quick = MachineFacts(name="quick", nodes=2, cores=16, bytes_per_s=1e9)
    found = predict(made, "impala", quick, config)
    assert "link" not in found.limit
    slow = dataclasses.replace(quick, bytes_per_s=sum(wire.bytes_per_s for wire in found.wires) / 100)
    slowed = predict(made, "impala", slow, config)
    assert "link" in slowed.limit
    assert slowed.env_steps_per_s < 0.6 * found.env_steps_per_s  # the half that has no link to cross goes on


def test_what_if_the_environment_were_faster_or_the_cores():
    made, config = with_learner(1e6, **BUSY), config_of("a2c", num_actors=1, envs_per_actor=1)
    plain = predict(made, "a2c", MANY, config).env_steps_per_s
    assert predict(made, "a2c", MANY, config, env_times=0.5).env_steps_per_s > 1.8 * plain
    assert predict(made, "a2c", dataclasses.replace(MANY, speed=2.0), config).env_steps_per_s > 1.9 * plain
    asleep = with_learner(1e6, **SLEEPS)
    quicker = predict(asleep, "a2c", dataclasses.replace(MANY, speed=2.0), config).env_steps_per_s
    assert quicker == pytest.approx(predict(asleep, "a2c", MANY, config).env_steps_per_s, rel=0.01)  # sleep is sleep


@pytest.mark.parametrize("architecture", BY_LEARNER)
def test_every_architecture_is_predicted_by_its_own_run_and_twice_the_same(architecture):
    made, here = profile(), machine_named("here", profile())
    found = predict(made, architecture, here, whole_unrolls=True)
    assert found == predict(made, architecture, here, whole_unrolls=True)
    assert found.env_steps_per_s > 0
    assert {wire.message for wire in found.wires} >= {"TRAJ", "PARAM"}
    assert set(found.roles) >= {"actor", "learner"}
    assert all(0 <= role.busy <= 1.001 for role in found.roles.values())
    assert architecture in render(made, found)


VALUES = ("pg", "a3c", "dqn", "rainbow", "gorila", "apex", "r2d2")
CROSSES = {
    "a3c": {"GRAD", "PARAM"}, "pg": {"TRAJ", "PARAM"}, "gorila": {"TRANS", "BATCH", "GRAD", "PARAM"},
    "r2d2": {"TRAJ", "BATCH", "PRIO", "PARAM"}, "dqn": {"TRANS", "BATCH", "PARAM"},
}  # fmt: skip
OTHERS = {"TRANS", "BATCH", "PRIO", "PARAM"}


@pytest.mark.parametrize("architecture", VALUES)
def test_with_a_trace_of_its_phases_every_architecture_is_predicted(architecture):
    made = dataclasses.replace(profile(), traces=(trace(architecture),))
    short = {"replay_start": 200, "replay_capacity": 5_000, "pushes_per_visit": 5, "episode_limit": 50}
    known = presets.preset(architecture, made.env.spec())
    config = dataclasses.replace(known, **{name: value for name, value in short.items() if hasattr(known, name)})
    found = predict(made, architecture, MANY, config, whole_unrolls=True)
    assert {wire.message for wire in found.wires} == CROSSES.get(architecture, OTHERS)
    assert found.env_steps_per_s > 0
    if hasattr(config, "replay_ratio") and architecture != "gorila":
        assert found.reuse == pytest.approx(config.replay_ratio, rel=0.2)
    twice = dataclasses.replace(made, traces=(trace(architecture, update=3e-4, gradient=5e-4),))
    slower = predict(twice, architecture, MANY, config, whole_unrolls=True)
    assert slower.env_steps_per_s < found.env_steps_per_s


def test_architectures_by_name_are_all_that_there_are():
    assert {*BY_LEARNER, *VALUES, "ddpg", "naf", "sac"} == set(registry.ARCHITECTURES)


def test_messages_cost_what_passing_them_does():
    made, config = with_learner(1e6, **SLEEPS), config_of("a2c", num_actors=1, envs_per_actor=1, unroll_length=1)
    passing = Passing(wake_s=1e-3, turn_s=5e-4, call_wake_s=0.0, call_turn_s=0.0, pull_byte_s=0.0, put_byte_s=0.0)
    dear = dataclasses.replace(made, passing={"processes": passing})
    before, after = (1 / predict(one, "a2c", MANY, config).env_steps_per_s for one in (made, dear))
    assert after - before == pytest.approx(3e-3, rel=1e-3)
    assert 1 / predict(dear, "a2c", MANY, config, engine="threads").env_steps_per_s == pytest.approx(before)
    several = config_of("a2c", num_actors=4, envs_per_actor=1, unroll_length=1)
    four = 4 / predict(dear, "a2c", MANY, several).env_steps_per_s
    # they wake up together and pull by turns; when they put, they are spread out
    assert four - after == pytest.approx(3 * 5e-4, rel=0.1)


def test_passing_that_was_measured_to_cost_nothing_costs_nothing():
    made, free = with_learner(1e6, **SLEEPS), Passing(
        wake_s=0.0, turn_s=0.0, call_wake_s=0.0, call_turn_s=0.0, pull_byte_s=0.0, put_byte_s=0.0
    )  # fmt: skip
    costless = dataclasses.replace(made, passing={"processes": free})
    for fields in ({}, {"sampler": "central", "env_workers": 2}, {"sampler": "parallel", "env_workers": 2}):
        config = config_of("a2c", num_actors=2, envs_per_actor=4, unroll_length=4, **fields)
        assert predict(costless, "a2c", MANY, config) == predict(made, "a2c", MANY, config)


def test_a_curve_says_where_it_bends():
    config = config_of("impala", envs_per_actor=1, unroll_length=20, batch_trajectories=4, queue_slots=4)
    values = [1, 2, 4, 8, 16]
    found = over(with_learner(5_000, **BUSY), "impala", MANY, config, "num_actors", values)
    assert [round(marginal(values, found, i), 1) for i in (1, 2)] == [1.0, 1.0]
    assert marginal(values, found, 4) == pytest.approx(0, abs=0.02)
    assert "it bends before num_actors=8" in render_over("num_actors", values, found)


def test_data_that_no_memory_holds_are_told():
    config = config_of("impala", num_actors=64, envs_per_actor=64)
    tiny = dataclasses.replace(MANY, memory_bytes=2**20)
    assert "more than the memory of the machine" in render(profile(), predict(profile(), "impala", tiny, config))
    assert "more than" not in render(profile(), predict(profile(), "impala", MANY, config))


def test_what_no_profile_knows_is_refused():
    with pytest.raises(ConfigError, match=r"no costs of dqn's parts; measure them with shoal advise .* --measure dqn"):
        predict(profile(), "dqn", MANY)


def test_learners_in_step_share_the_rows_of_a_batch_and_the_cores():
    made = dataclasses.replace(profile(step=(0.0, 1e-9), inference={"numpy": (0.0, 1e-9)}), architecture="a2c",
                               update={"cpu": learner_of(1e4)})  # fmt: skip
    fields = {"num_actors": 4, "envs_per_actor": 4, "unroll_length": 32}
    one, four = (predict(made, "a2c", MANY, config_of("a2c", learners=n, **fields)).env_steps_per_s for n in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.01)
    single = MachineFacts(name="one", cores=1)
    together = predict(made, "a2c", single, config_of("a2c", learners=4, **fields)).env_steps_per_s
    assert together == pytest.approx(one, rel=0.01)


def test_machines_by_name_shape_and_file(tmp_path):
    made = profile()
    assert machine_named("here", made).cores == made.cores
    assert (machine_named("4x32", made).nodes, machine_named("4x32", made).cores) == (4, 32)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"cores": 12, "nodes": 3, "latency_s": 1e-4}))
    assert machine_named(str(path), made) == MachineFacts(name=str(path), cores=12, nodes=3, latency_s=1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no JSON object"),
        ('{"cors": 4}', r"unknown field 'cors'; nearest: cores"),
        ('{"nodes": 4}', "says nothing of its cores"),
        ('{"cores": 0}', "cores=0; it must be above 0"),
        ('{"cores": "many"}', "cores='many'; it must be a number"),
        ('{"cores": 4, "latency_s": -1}', "latency_s=-1; it must be 0 or more"),
    ],
)
def test_files_that_are_no_machine_are_told_in_one_line(text, said, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as told:
        machine_named(str(path), profile())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "said"), [("cray", "machine 'cray' is unknown"), ("0x4", "nodes=0"), ("gone.json", "cannot be read")]
)
def test_names_that_are_no_machine(name, said):
    with pytest.raises(ConfigError, match=said):
        machine_named(name, profile())
