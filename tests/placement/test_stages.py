# SPDX-License-Identifier: Apache-2.0
"""The table of stages: shares are worker seconds, words follow the measurement."""

import pytest

from placement.made_up import profile, trial
from placement.test_layouts import FILLS, FREE, MOVES, PYTHON, SLEEPS
from shoal.placement.lines import break_even
from shoal.placement.stages import BOXES, NO_GPU, stages

NAMES = [
    "environment step", "inference", "bookkeeping", "advantage estimate", "gradient and step", "publish params",
    "waiting",
]  # fmt: skip


def by_name(made, ran):
    return {stage.name: stage for stage in stages(made, ran)}


def test_every_stage_is_there_once_in_the_order_of_the_boxes():
    found = stages(profile(), trial())
    assert [s.name for s in found] == NAMES
    assert [s.box for s in found] == sorted((s.box for s in found), key=BOXES.index)
    assert {s.box for s in found} == set(BOXES)


@pytest.mark.parametrize(("engine", "actors"), [("inline", 1), ("threads", 1), ("threads", 3)])
def test_shares_are_worker_seconds(engine, actors):
    ran = trial("impala" if engine == "threads" else "ppo", engine=engine, actors=actors)
    found = by_name(profile(), ran)
    total = 2.0 * (1 if engine == "inline" else actors + 1)
    assert sum(s.share for s in found.values()) == pytest.approx(1)
    assert found["environment step"].share == pytest.approx(1.0 / total)
    assert found["inference"].share == pytest.approx(0.2 / total)
    assert found["bookkeeping"].share == pytest.approx(0.1 / total)
    learning = found["advantage estimate"].share + found["gradient and step"].share
    assert learning == pytest.approx(0.6 / total)
    assert found["environment step"].per_step_s == pytest.approx(1.0 / ran.env_steps)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SLEEPS, ("yes", "waits 98%", "more actors", "2 threads ran 2.0x")),
        (FILLS, ("it is already", "4.0 of 4 cores")),
        (FREE, ("yes", "over threads", "1.9x")),
        (MOVES, ("hardly", "50% of what memory can move", "1.1x")),
        (PYTHON, ("yes: over processes", "threads take turns", "Python's lock", "0.9x")),
        ({**PYTHON, "step": (0.0, 10e-6)}, ("hardly", "too short for processes")),
        ({"step": (5e-5, 1e-7)}, ("yes, as a vector: 32 in one step give 3.8x the steps of 8", "take turns")),
    ],
)
def test_words_for_the_environment_follow_what_it_is_kept_by(made, words):
    text = by_name(profile(**made), trial())["environment step"].parallel
    assert [word for word in words if word not in text] == []


def test_what_takes_no_time_needs_nothing():
    quick = trial("ppo")
    quick.phases["actor"]["act"] = 0.001
    found = by_name(profile(), quick)
    assert found["inference"].parallel == "no need: <1% of the time"
    assert found["publish params"].parallel.startswith("no need")


def test_without_an_accelerator_it_says_so():
    found = by_name(profile(), trial())
    assert {found[name].break_even for name in ("inference", "gradient and step", "advantage estimate")} == {NO_GPU}
    assert {stage.device for stage in found.values()} == {"CPU", "-"}


def test_accelerator_beside_the_best_of_the_host():
    """Acting on 8: 18 us in NumPy, 100 us on the GPU, equal at 90. Updating 1024 rows: 3 ms against 0.6 ms."""
    made = profile(
        inference={"numpy": (10e-6, 1e-6), "cpu": (40e-6, 0.9e-6), "gpu": (100e-6, 0.0)},
        update={"cpu": (4.4e-4, 2.5e-6), "gpu": (5e-4, 1e-7)},
    )
    found = by_name(made, trial())
    assert found["inference"].device == "CPU, 5.6x at 8"
    assert found["inference"].break_even == "90 observations"
    assert found["gradient and step"].device == "GPU, 5.0x at 1,024"
    turn = break_even(made.update["cpu"].line(), made.update["gpu"].line())
    assert found["gradient and step"].break_even == f"{turn:.0f} rows"


def test_accelerator_that_never_wins():
    made = profile(
        inference={"numpy": (10e-6, 1e-6), "gpu": (100e-6, 2e-6)}, update={"cpu": (1e-4, 1e-6), "gpu": (1e-2, 1e-6)}
    )
    found = by_name(made, trial())
    assert found["inference"].break_even == "never seen"
    assert found["gradient and step"].break_even == "never seen"


def test_waiting_names_the_side_that_limits():
    ran = trial("impala", engine="threads", actors=2)
    assert "actors are the limit" in by_name(profile(), ran)["waiting"].parallel
    ran.phases["learner"]["update"] = 1.9
    assert "the learner is the limit" in by_name(profile(), ran)["waiting"].parallel
    assert "nobody waits" in by_name(profile(), trial())["waiting"].parallel
