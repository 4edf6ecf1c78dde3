# SPDX-License-Identifier: Apache-2.0
"""What is recommended and why, on made-up profiles."""

import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.made_up import profile, trial
from placement.test_layouts import FILLS, PYTHON, SLEEPS
from shoal.cli.train import parse_fields
from shoal.placement.verdict import advise_on, choose, command, limits, race

RATE = st.floats(1.0, 1e6)
QUICK_PYTHON = {**PYTHON, "step": (0.0, 10e-6)}


def presets_at(ppo, a2c, impala):
    return (
        trial("ppo", ppo),
        trial("a2c", a2c, length=32),
        trial("impala", impala, engine="threads", actors=2, length=32),
    )


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ((1000, 1000, 1000), "ppo"),
        ((1000, 1900, 1900), "ppo"),
        ((1000, 2500, 1000), "a2c"),
        ((1000, 2500, 2600), "a2c"),
        ((1000, 2500, 4000), "impala"),
    ],
)
def test_steps_are_weighed_by_what_they_are_worth(rates, best):
    assert choose(list(presets_at(*rates))).architecture == best


def test_a_preset_is_left_for_a_clear_gain_only():
    split = {"num_actors": 8, "envs_per_actor": 1}
    usual = trial("ppo", 1000)
    assert choose([usual, trial("ppo", 1100, engine="threads", changed=split)]) is usual
    quicker = trial("ppo", 4000, engine="threads", changed=split)
    assert choose([usual, quicker]) is quicker
    assert choose([usual, replace(quicker, same_learning=False)]) is usual


@given(step=RATE, act=RATE, update=RATE, cores=st.floats(0.1, 4.0))
def test_bounds_keep_their_order(step, act, update, cores):
    made = profile(
        step=(0.0, 1 / step), step_cores=cores, inference={"numpy": (0.0, 1 / act)}, update={"cpu": (0.0, 1 / update)}
    )
    bounds = limits(made, trial())
    assert bounds.series <= bounds.overlapped * (1 + 1e-9)
    assert bounds.overlapped <= min(bounds.simulator, bounds.inference, bounds.update) * (1 + 1e-9)
    parts = 1 / bounds.simulator + 1 / bounds.inference + 1 / bounds.update
    assert bounds.series == pytest.approx(1 / parts)


def test_limits_of_round_numbers():
    bounds = limits(profile(), trial())
    assert bounds.simulator == pytest.approx(8 / 58e-6)
    assert bounds.inference == pytest.approx(8 / 18e-6)
    assert bounds.update == pytest.approx(1024 / 3e-3)


def test_slow_environments_in_python_get_processes():
    advice = advise_on(profile(**PYTHON, trials=presets_at(1000, 900, 950)))
    assert advice.best.engine == "processes"
    assert advice.command.startswith("shoal train ppo --env Made-Up-v0 --engine processes --num-actors 4")
    assert any("every actor gets a process, 3." in r for r in advice.reasons)


def test_quick_environments_in_python_are_not_parallelised():
    advice = advise_on(profile(**QUICK_PYTHON, trials=presets_at(1000, 900, 950)))
    assert advice.best.engine == "inline"
    assert advice.command == "shoal train ppo --env Made-Up-v0"
    assert any(r.startswith("Don't parallelise: the simulator holds Python's lock") for r in advice.reasons)
    assert any("impala on threads: 0.9x" in r for r in advice.reasons)


def test_threads_that_are_faster_for_another_architecture_are_owned_up_to():
    advice = advise_on(profile(**QUICK_PYTHON, trials=presets_at(1000, 900, 1600)))
    assert advice.best.architecture == "ppo"
    assert not any("Don't parallelise" in r for r in advice.reasons)
    assert any("impala on threads collects 1.6x the steps" in r for r in advice.reasons)


def test_the_largest_stage_is_named_as_the_limit():
    advice = advise_on(profile(trials=(trial(),)))
    assert advice.reasons[0] == "What limits ppo here: environment step, 50% of the time."


def test_where_every_stage_fills_the_cores_nothing_is_left():
    advice = advise_on(profile(**FILLS, trials=presets_at(200, 600, 500)))
    assert advice.best.architecture == "a2c"
    assert any("keep all 4 cores busy already" in r for r in advice.reasons)
    assert any("3.0x those of ppo" in r for r in advice.reasons)


def test_waiting_environments_are_parallelised_even_where_that_was_only_predicted():
    advice = advise_on(profile(**SLEEPS, trials=presets_at(200, 200, 400)))
    assert advice.best.architecture == "ppo"
    assert advice.best.simulated
    assert advice.command == "shoal train ppo --env Made-Up-v0 --num-actors 8 --envs-per-actor 1"
    assert any(re.match(r"Parallelise: waiting environments overlap, [678]\.\dx ppo", r) for r in advice.reasons)
    assert not advice.trial.simulated


def test_predictions_stand_beside_runs_at_the_pace_of_the_runs():
    """Real runs at half of the predicted pace halve what is predicted for the others."""
    made = profile(**SLEEPS)

    def ran_at(steps_per_s):
        ran = trial("ppo", steps_per_s)
        ran.phases["actor"] |= {"prepare": 0.0, "assemble": 0.0}  # else slower runs would mean dearer bookkeeping
        return ran

    steady = advise_on(replace(made, trials=(ran_at(200),)))
    slower = advise_on(replace(made, trials=(ran_at(100),)))
    pairs = zip(steady.choices, slower.choices, strict=True)
    assert all(a.env_steps_per_s == pytest.approx(2 * b.env_steps_per_s, rel=0.01) for a, b in pairs)


def test_the_architecture_asked_for_is_the_one_shown():
    made = profile(trials=presets_at(1000, 900, 950))
    assert advise_on(made).trial.architecture == "ppo"
    assert advise_on(made, "impala").trial.architecture == "impala"
    assert advise_on(made, "impala").best.architecture == "ppo"


def test_gpu_words_without_one_bound_what_it_could_do():
    """A simulator of 138k steps/s beside series of 79k: at most 1.7x; an update of next to nothing: none needed."""
    slow = advise_on(profile(trials=presets_at(1000, 900, 950)))
    assert any("One that made inference and update free would make this 1.7x" in r for r in slow.reasons)
    busy = advise_on(profile(**PYTHON, trials=presets_at(1000, 900, 950)))
    assert any("none needed" in r for r in busy.reasons)


def test_gpu_words_with_one():
    made = profile(
        trials=presets_at(1000, 900, 950),
        inference={"numpy": (10e-6, 1e-6), "gpu": (100e-6, 0.0)},
        update={"cpu": (4.4e-4, 2.5e-6), "gpu": (5e-4, 1e-7)},
    )
    said = " ".join(advise_on(made).reasons)
    assert "Act on the CPU, 5.6x at 8 (GPU from 90 observations)" in said
    assert "update on the GPU, 5.0x at 1,024" in said


def test_other_programs_are_mentioned():
    quiet, busy = (advise_on(profile(disturbed=d, trials=(trial(),))).reasons for d in (0.02, 0.4))
    assert not any("Other programs" in r for r in quiet)
    assert any("Other programs used 40% of the cores" in r for r in busy)


def test_the_line_to_run_is_one_that_train_takes():
    made = profile(**SLEEPS, trials=presets_at(200, 200, 400))
    made = replace(made, env=replace(made.env, id="toy:paced", settings={"step_s": 0.005}))
    for choice in advise_on(made).choices:
        words = shlex.split(command(made, choice))
        assert words[:2] == ["shoal", "train"]
        options, config, _ = parse_fields(words[2], words[3:])
        assert options.env_kwargs == '{"step_s": 0.005}'
        assert {name: getattr(config, name) for name in choice.changed} == choice.changed


def test_race_is_offered_where_it_can_be_run():
    assert race(profile()) == "shoal race ppo a2c impala --env Made-Up-v0 --env-steps 100000"
    assert race(profile(network="my.net:Net")) is None
