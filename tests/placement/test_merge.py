# SPDX-License-Identifier: Apache-2.0
"""One profile out of several: weighted means, sizes and platforms and runs of all, and what is refused."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.made_up import HARDWARE, curve, handling, point, profile, relayed, trace, trial
from placement.test_layouts import PICTURES
from shoal.errors import ConfigError
from shoal.placement.compare import parts
from shoal.placement.merge import merge, merge_points
from shoal.placement.messages import Passing
from shoal.placement.profile import Curve, read_profile, write_profile
from shoal.placement.verdict import advise_on

FULL = profile(
    trials=(trial(), trial("impala", engine="threads", actors=2, changed={"num_actors": 2})),
    inference={"numpy": (1e-5, 1e-6), "gpu": (1e-4, 1e-8)},
)


def figures(made):
    return {key: value for key, (_, value, _) in parts(made)}


def test_traces_and_messages_are_merged_too():
    plain = Passing(wake_s=1.0, turn_s=3.0, call_wake_s=0.0, call_turn_s=0.0, pull_byte_s=0.0, put_byte_s=0.0)
    passing = {"threads": plain}
    dear = {"threads": dataclasses.replace(plain, wake_s=3.0), "processes": plain}
    one = dataclasses.replace(FULL, traces=(trace("dqn", add=1.0), trace("a3c")), passing=passing)
    two = dataclasses.replace(FULL, traces=(trace("dqn", add=3.0), trace("pg")), passing=dear)
    both = merge([one, two])
    assert [found.architecture for found in both.traces] == ["dqn", "a3c", "pg"]
    assert both.traces[0].phases["add"].at(64) == pytest.approx(2.0 * 64)
    assert both.traces[1] == one.traces[1]
    assert (both.passing["threads"].wake_s, both.passing["threads"].turn_s) == (2.0, 3.0)
    assert both.passing["processes"] == passing["threads"]


def test_messages_of_clusters_are_averaged_and_taken_over():
    one, two = (dataclasses.replace(FULL, relayed=relayed(s, agent=handling(s, 2 * s))) for s in (1.0, 3.0))
    assert merge([one, two]).relayed == relayed(2.0, agent=handling(2.0, 4.0))
    assert merge([FULL, two]).relayed == two.relayed
    assert merge([FULL, FULL]).relayed is None


def test_with_itself_a_profile_has_the_same_seconds(tmp_path):
    both = merge([FULL, FULL])
    assert figures(both) == pytest.approx(figures(FULL))
    assert both.env_beside == FULL.env_beside
    assert both.valid_frac == FULL.valid_frac
    assert both.env_reset.noise == FULL.env_reset.noise
    assert both.env_reset.calls == 2 * FULL.env_reset.calls
    assert both.measured_s == 2 * FULL.measured_s
    assert advise_on(both).command == advise_on(FULL).command
    write_profile(tmp_path / "p.json", both)
    assert read_profile(tmp_path / "p.json") == both


seconds = st.floats(1e-6, 1.0)
points = st.builds(point, st.just(8), seconds, calls=st.integers(1, 1000))


@given(points, points, points)
def test_the_order_of_merging_does_not_matter_to_seconds(one, two, three):
    at_once = merge_points([one, two, three])
    in_turn = merge_points([merge_points([three, one]), two])
    assert in_turn.calls == at_once.calls == one.calls + two.calls + three.calls
    for name in ("mean_s", "median_s", "p99_s", "cpu_s"):
        assert getattr(in_turn, name) == pytest.approx(getattr(at_once, name))
    assert min(p.mean_s for p in (one, two, three)) <= at_once.mean_s * (1 + 1e-9)


def test_means_are_weighted_by_calls():
    merged = merge_points([point(8, 1e-3, calls=30), point(8, 2e-3, calls=10)])
    assert merged.mean_s == pytest.approx(1.25e-3)
    assert merged.calls == 40


def test_measurements_that_disagree_say_so():
    """Both state 2%, and are 20% apart: a third is not known better than by half of that."""
    merged = merge_points([point(8, 0.9e-3), point(8, 1.1e-3)])
    assert merged.noise == pytest.approx(0.1)
    assert merge_points([point(8, 1e-3, noise=None), point(8, 1e-3, noise=None)]).noise == 0.0
    assert merge_points([point(8, 1e-3, calls=30, noise=0.01), point(8, 1e-3, calls=10, noise=0.05)]).noise == (
        pytest.approx(0.02)
    )


def test_what_only_one_has_is_taken_over():
    here = dataclasses.replace(FULL, env_step=curve(50e-6, 1e-6, (1, 8)), inference=profile().inference, trials=())
    there = profile(
        env_step=curve(50e-6, 1e-6, (8, 32)),
        inference={"gpu": (1e-4, 1e-8)},
        trials=FULL.trials[1:],
        hardware=HARDWARE | {"devices": [{"platform": "gpu", "kind": "card", "id": 0}]},
    )
    both = merge([here, there])
    assert [p.size for p in both.env_step.points] == [1, 8, 32]
    assert [p.calls for p in both.env_step.points] == [9, 18, 9]
    assert set(both.inference) == {"numpy", "gpu"}
    assert both.inference["gpu"] == there.inference["gpu"]
    assert both.trials == FULL.trials[1:]
    assert [d["platform"] for d in both.hardware["devices"]] == ["cpu", "gpu"]


def test_runs_of_one_layout_are_one_long_run():
    both = merge([profile(trials=(trial(steps_per_s=40_000.0),)), profile(trials=(trial(steps_per_s=60_000.0),))])
    (run,) = both.trials
    assert run.env_steps_per_s == pytest.approx(50_000)
    assert run.wall_s == 4.0
    assert run.phases["actor"]["env_step"] == 2.0
    assert run.noise == pytest.approx(0.2)
    assert len(merge([profile(trials=(trial(),)), profile(trials=(trial(length=64),))]).trials) == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"hardware": HARDWARE | {"cpu_model": "another"}}, "processor made up in one, another in another"),
        ({"hardware": HARDWARE | {"usable_cores": 2.0}}, "usable cores 4.0 in one, 2.0"),
        ({"hardware": HARDWARE | {"jax": "0.1"}}, "jax None in one, 0.1"),
        ({"shoal": "9.9"}, "shoal 0.1.0 in one, 9.9"),
        ({"env": dataclasses.replace(profile().env, id="Other-v0")}, "environment Made-Up-v0 in one, Other-v0"),
        ({"env": dataclasses.replace(profile().env, settings={"a": 1})}, "settings {} in one, {'a': 1}"),
        ({"env": PICTURES}, "environment's form [4] float32"),
        ({"network": "lstm"}, "network ('auto', 1000) in one"),
        ({"architecture": "impala"}, "--arch ppo in one, impala"),
        ({"copy": point(10, 1e-3)}, "copies are 100000000 in one, 10 in another"),
    ],
)
def test_what_is_not_the_same_is_refused_in_one_line(other, said):
    with pytest.raises(ConfigError) as caught:
        merge([profile(), profile(), profile(**other)])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_curves_keep_their_seconds_at_sizes_between():
    both = merge([FULL, FULL])
    assert both.env_step.at(20) == pytest.approx(FULL.env_step.at(20))
    assert isinstance(both.env_step, Curve)
