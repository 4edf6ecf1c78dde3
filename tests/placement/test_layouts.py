# SPDX-License-Identifier: Apache-2.0
"""What an environment's step is kept by, what that makes worth trying, and what the simulated engine says of it."""

import dataclasses

import pytest

from placement.made_up import profile
from shoal.architectures import presets, registry
from shoal.placement import layouts
from shoal.placement.bounds import env_kind
from shoal.placement.layouts import arrange, arrangements, core_limit, predict
from shoal.placement.trial import layout, settling
from shoal.placement.unit_costs import batch_rows
from shoal.types import ArraySpec

SLEEPS = {"step": (0.0, 5e-3), "step_cores": 0.02, "gain": 2.0}
FILLS = {"step": (0.0, 3e-4), "step_cores": 4.0, "gain": 1.0}
FREE = {"step": (0.0, 1e-3), "step_cores": 1.0, "gain": 1.9}
PYTHON = {"step": (0.0, 1e-3), "step_cores": 1.0, "gain": 0.9}
PICTURES = dataclasses.replace(profile().env, obs={"": ArraySpec((1000, 1000), "uint8")})
MOVES = {"step": (0.0, 2e-4), "step_cores": 1.0, "gain": 1.1, "env": PICTURES}
"""a million bytes in 0.2 ms: half of what memory moves"""


def preset(architecture, **changes):
    config = presets.preset(architecture, profile().env.spec())
    return arrange(architecture, config, changes)


KINDS = [("waits", SLEEPS), ("fills", FILLS), ("threads", FREE), ("memory", MOVES), ("python", PYTHON)]


@pytest.mark.parametrize(("kind", "made"), KINDS)
def test_kinds_of_environment(kind, made):
    assert env_kind(profile(**made)) == kind


def changes_of(made):
    return {(a.architecture, tuple(a.changed), a.same_learning) for a in arrangements(profile(**made)) if a.changed}


def test_presets_are_always_considered():
    for _, made in KINDS:
        names = [a.architecture for a in arrangements(profile(**made)) if not a.changed]
        assert names == ["ppo", "a2c", "impala"]


def test_waiting_environments_get_an_actor_each():
    found = {a.architecture: a for a in arrangements(profile(**SLEEPS)) if a.changed and a.same_learning}
    assert layout(found["ppo"].config)["num_actors"] == 8
    assert layout(found["ppo"].config)["envs_per_actor"] == 1
    for name, arrangement in found.items():
        assert arrangement.engine == "threads"
        assert batch_rows(arrangement.config) == batch_rows(preset(name).config)


def test_environments_that_fill_the_cores_are_left_as_they_are():
    assert changes_of(FILLS) == set()


def test_slow_environments_in_python_get_a_process_each():
    found = {a.architecture: a for a in arrangements(profile(**PYTHON)) if a.engine == "processes"}
    assert found["ppo"].changed == {"num_actors": 4, "envs_per_actor": 2}
    for name, arrangement in found.items():
        assert batch_rows(arrangement.config) == batch_rows(preset(name).config)
    made = profile(**PYTHON)
    gain = predict(made, found["ppo"]).env_steps_per_s / predict(made, preset("ppo")).env_steps_per_s
    assert 3 < gain < 4.01


def test_environments_that_memory_keeps_are_left_as_they_are():
    assert changes_of(MOVES) == set()
    made = profile(**MOVES)
    assert core_limit(made, 8, 1024, 1, "processes") == core_limit(made, 8, 1024, 1, "threads")


def test_quick_environments_and_nameless_ones_get_none():
    assert changes_of({**PYTHON, "step": (0.0, 10e-6)}) == set()
    nameless = dataclasses.replace(profile().env, named=False)
    assert all(a.engine != "processes" for a in arrangements(profile(**PYTHON, env=nameless)))


def test_environments_that_run_beside_one_another_are_split_over_the_cores():
    found = [a for a in arrangements(profile(**FREE)) if a.architecture == "ppo" and a.changed]
    assert [a.changed for a in found] == [{"num_actors": 4, "envs_per_actor": 2}]


def test_a_step_of_fixed_cost_takes_more_environments():
    found = [a for a in arrangements(profile(step=(5e-5, 1e-7))) if a.changed]
    assert {tuple(a.changed) for a in found} == {("envs_per_actor", "unroll_length")}
    assert all(not a.same_learning for a in found)
    assert all(batch_rows(a.config) == batch_rows(preset(a.architecture).config) for a in found)


@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_one_actor_in_lock_step_takes_the_sum_of_its_parts(architecture):
    made = profile()
    config = preset(architecture).config
    trial = predict(made, preset(architecture))
    rows = config.unroll_length * config.envs_per_actor
    times = pieces = 4 if architecture == "ppo" else 1  # passes, minibatches in each
    step, act = 50e-6 + 8e-6, 10e-6 + 8e-6
    update = (4.4e-4 * pieces / 4 + 2.5e-6 * rows) * times / 4
    expected = config.unroll_length * (step + act) + update
    assert trial.wall_s / trial.updates == pytest.approx(expected, rel=1e-6)
    assert trial.simulated
    assert trial.lag_mean == 0


def test_actors_whose_environments_wait_add_up():
    made = profile(**SLEEPS)
    one, eight = preset("ppo"), preset("ppo", num_actors=8, envs_per_actor=1)
    ratio = predict(made, eight).env_steps_per_s / predict(made, one).env_steps_per_s
    assert ratio == pytest.approx(8, rel=0.02)


def test_actors_that_compute_do_not_exceed_the_cores():
    made = profile(**PYTHON)
    crowd = predict(made, preset("ppo", num_actors=8, envs_per_actor=1))
    assert crowd.env_steps_per_s <= core_limit(made, 1, 1024, 4) * (1 + 1e-9)
    assert crowd.env_steps_per_s <= 1 / 1e-3


def test_impala_overlaps_what_lock_step_does_in_turn():
    made = profile(**SLEEPS, update={"cpu": (0.0, 2.5e-3 * 4)})
    impala = predict(made, preset("impala", num_actors=1, batch_trajectories=1))
    a2c = predict(made, preset("a2c"))
    assert impala.env_steps_per_s > 1.3 * a2c.env_steps_per_s
    assert impala.lag_mean > 0


def test_windows_open_when_the_queue_filled_while_compiling_is_empty():
    assert settling(preset("ppo").config) == 2
    assert settling(preset("ppo", num_actors=4).config) == 2
    impala = preset("impala", num_actors=3, queue_slots=5, batch_trajectories=2).config
    assert settling(impala) == 1 + 4


def test_considered_architectures_exist():
    assert set(layouts.CONSIDERED) <= set(registry.ARCHITECTURES)
