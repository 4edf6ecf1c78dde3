# SPDX-License-Identifier: Apache-2.0
"""Two profiles beside one another: rows of the same work, noise, what differs, and what cannot be compared."""

import dataclasses

import pytest

from placement.made_up import HARDWARE, handling, point, profile, relayed, trial
from placement.test_layouts import PICTURES
from shoal.errors import ConfigError
from shoal.placement.compare import Row, compare, differences, here
from shoal.placement.render_comparison import render

RUNS = (trial(), trial("impala", engine="threads"))


def by_part(found):
    return {row.part: row for row in found.rows}


def test_beside_itself_nothing_differs():
    made = profile(trials=RUNS, inference={"numpy": (1e-5, 1e-6), "gpu": (1e-4, 1e-8)})
    found = compare(made, made)
    assert all(row.ratio == 1 and row.within for row in found.rows)
    assert found.differing == found.alone == []
    assert len(found.rows) == 3 + 1 + 2 * 3 + 3 + 1 + 1 + 2
    assert "one machine, one version, one environment" in render(found, "a.json", "b.json")


def test_a_slower_environment_is_one_row_apart():
    slow = profile(step=(60e-6, 1e-6), trials=(trial(steps_per_s=40_000.0), RUNS[1]))
    found = compare(profile(trials=RUNS), slow)
    rows = by_part(found)
    step = rows["environment step, 8 envs"]
    assert step.ratio == pytest.approx(68 / 58)
    assert step.within is False
    assert rows["advantage estimate, 1,024 rows"].within is True
    run = rows["run, ppo, 1 actor x 8 envs x 128 steps, one thread"]
    assert (run.unit, run.ratio, run.within) == ("steps/s", pytest.approx(0.8), False)
    text = render(found, "a.json", "b.json")
    assert "58.0 us ±2%     68.0 us ±2%    1.17  no: A is faster" in text
    assert "50.0k/s ±3%     40.0k/s ±3%    0.80  no: A is faster" in text
    assert "4 of 14 differ by more than the noise of both" in text


@pytest.mark.parametrize(
    ("b", "noises", "within"),
    [
        (1.04, (0.03, 0.02), True),
        (1.06, (0.03, 0.02), False),
        (0.96, (0.03, 0.02), True),
        (1.5, (0.03, None), None),
    ],
)
def test_within_is_the_noise_of_both_whichever_is_called_a(b, noises, within):
    row = Row(part="", unit="seconds", a=1.0, b=b, noise_a=noises[0], noise_b=noises[1])
    other = Row(part="", unit="seconds", a=b, b=1.0, noise_a=noises[1], noise_b=noises[0])
    assert row.within is other.within is within


def test_an_unknown_noise_is_told():
    once = profile(env_reset=point(8, 1e-4, calls=1, noise=None))
    assert "not known" in render(compare(once, profile()), "a", "b")


def test_a_machine_that_others_used_is_told():
    told = "other programs used 0% and 40% of the cores"
    assert told in render(compare(profile(), profile(disturbed=0.4)), "a", "b")
    assert "other programs" not in render(compare(profile(), profile()), "a", "b")


def test_what_differs_beside_the_figures_is_listed():
    quick = dataclasses.replace(profile().env, id="Quick-v0", settings={"fast": True})
    other = profile(env=quick, hardware=HARDWARE | {"cpu_model": "another", "jax": "1.0"}, shoal="0.2.0")
    assert compare(profile(), other).differing == [
        ("environment", "Made-Up-v0", "Quick-v0"),
        ("its settings", {}, {"fast": True}),
        ("shoal", "0.1.0", "0.2.0"),
        ("processor", "made up", "another"),
    ]
    assert "  processor: made up | another" in render(compare(profile(), other), "a", "b")


def test_what_only_one_has_is_listed():
    gpu = profile(inference={"numpy": (1e-5, 1e-6), "gpu": (1e-4, 1e-8)}, trials=RUNS)
    found = compare(gpu, profile(env_step=dataclasses.replace(gpu.env_step, points=gpu.env_step.points[:2])))
    assert ("A", "environment step, 32 envs") in found.alone
    assert ("A", "inference, gpu, 16 observations") in found.alone
    assert ("A", "run, impala, 1 actor x 8 envs x 128 steps, threads") in found.alone
    assert len(found.alone) == 1 + 3 + 2
    assert compare(profile(), gpu).alone[0][0] == "B"


def test_messages_of_clusters_are_held_together_where_both_have_them():
    one, two = (profile(relayed=relayed(agent=handling(s))) for s in (1e-3, 2e-3))
    row = next(row for row in compare(one, two).rows if row.part.startswith("message on ray"))
    assert (row.part, row.ratio, row.within) == ("message on ray, processor time in agent", 2.0, None)
    assert compare(one, profile()).alone == [("A", row.part)]


def test_updates_of_other_architectures_are_not_held_together():
    found = compare(profile(), profile(architecture="impala"))
    assert ("architecture of the updates", "ppo", "impala") in found.differing
    assert not any(row.part.startswith(("update", "advantage")) for row in found.rows)
    assert "environment step, 8 envs" in by_part(found)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"env": PICTURES}, "observations [4] float32 in one, [1000, 1000] uint8 in the other"),
        (
            {"env": dataclasses.replace(profile().env, action_sizes=(3,))},
            "actions discrete [2] in one, discrete [3] in",
        ),
        ({"network": "lstm"}, "the network auto of 1,000 numbers in one, lstm of"),
        ({"params": 7}, "auto of 7 numbers in the other"),
    ],
)
def test_other_work_is_refused_in_one_line(other, said):
    with pytest.raises(ConfigError) as caught:
        compare(profile(), profile(**other))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_here_nothing_differs_from_here():
    from shoal import __version__

    assert differences(profile(hardware=here(), shoal=__version__)) == ""
    assert {"cpu_model", "jax", "numpy", "python", "devices"} <= set(here())
    assert differences(profile(hardware=here() | {"numpy": "0.1"}, shoal=__version__)).startswith("numpy 0.1 (here ")
