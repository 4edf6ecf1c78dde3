# SPDX-License-Identifier: Apache-2.0
"""A profile comes back from its file as it was, and a file that is none is refused in one line."""

import json
from dataclasses import replace

import pytest

from placement.made_up import handling, point, profile, relayed, trial
from shoal.errors import ConfigError
from shoal.placement.profile import VERSION, Curve, check_writable, read_profile, write_profile
from shoal.placement.verdict import advise_on

FULL = profile(
    trials=(trial(), trial("impala", engine="threads", actors=2, changed={"num_actors": 2})),
    inference={"numpy": (1e-5, 1e-6), "cpu": (4e-5, 2e-7), "gpu": (1e-4, 1e-8)},
    update={"cpu": (1e-4, 1e-6), "gpu": (1e-3, 1e-7)},
)


def test_round_trip(tmp_path):
    write_profile(tmp_path / "p.json", FULL)
    again = read_profile(tmp_path / "p.json")
    assert again == FULL
    assert advise_on(again) == advise_on(FULL)
    assert list(tmp_path.iterdir()) == [tmp_path / "p.json"]


def test_messages_of_clusters_come_back_and_older_files_have_none(tmp_path):
    path, found = tmp_path / "p.json", relayed(1e-3, agent=handling(2e-3, 3e-3, 1e-9))
    write_profile(path, replace(FULL, relayed=found))
    assert read_profile(path).relayed == found
    data = json.loads(path.read_text())
    del data["relayed"]
    path.write_text(json.dumps(data))
    assert read_profile(path) == FULL
    assert FULL.relayed is None


def test_the_file_says_what_it_is(tmp_path):
    write_profile(tmp_path / "p.json", FULL)
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["version"] == VERSION
    assert data["env"]["id"] == "Made-Up-v0"
    assert data["hardware"]["usable_cores"] == 4
    assert data["inference"]["numpy"]["points"][0]["size"] == 1


def refusal(path):
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_profile_is_refused(tmp_path):
    path = tmp_path / "p.json"
    assert "no such file" in refusal(path)
    path.write_text("{")
    assert "no JSON" in refusal(path)
    path.write_text("[1]")
    assert "no profile" in refusal(path)
    path.write_text('{"version": 999}')
    assert "form 999" in refusal(path)


def test_what_nobody_knows_comes_back_as_that(tmp_path):
    unknown = replace(FULL, env_reset=point(8, 1e-4, calls=1, noise=None))
    write_profile(tmp_path / "p.json", unknown)
    assert read_profile(tmp_path / "p.json") == unknown


def test_a_point_without_its_noise_is_refused(tmp_path):
    path = tmp_path / "p.json"
    write_profile(path, FULL)
    data = json.loads(path.read_text())
    del data["estimate"]["noise"]
    path.write_text(json.dumps(data))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("name", ["env", "trials", "inference", "hardware"])
def test_a_damaged_profile_is_refused(tmp_path, name):
    path = tmp_path / "p.json"
    write_profile(path, FULL)
    data = json.loads(path.read_text())
    del data[name]
    path.write_text(json.dumps(data))
    assert "damaged" in refusal(path)


def test_places_that_cannot_be_written_are_refused_before_measuring(tmp_path):
    check_writable(tmp_path / "p.json")
    for path in (tmp_path, tmp_path / "none" / "p.json"):
        with pytest.raises(ConfigError, match="cannot be written"):
            check_writable(path)
    with pytest.raises(ConfigError, match="could not be written"):
        write_profile(tmp_path / "none" / "p.json", FULL)


def test_an_undisturbed_call_takes_what_it_took():
    for cores in (0.1, 1.0, 3.5):
        measured = point(1, 2e-3, cores)
        assert Curve(points=(measured,)).seconds(measured) == pytest.approx(2e-3)


def test_time_that_other_programs_took_is_left_out():
    """One thread that ran half of the time: 1 ms alone. Half asleep, a quarter run, a quarter delayed: 1.5 ms alone.
    Four threads that delayed one another on all cores: no other program is blamed."""
    one, sleepy, four = (
        replace(point(1, 2e-3), cpu_s=cpu, delay_s=delay) for cpu, delay in ((1e-3, 1e-3), (5e-4, 5e-4), (4e-3, 4e-3))
    )
    seconds = Curve(points=(one,)).seconds
    assert seconds(one) == pytest.approx(1e-3)
    assert seconds(sleepy) == pytest.approx(1.5e-3)
    assert seconds(four) == pytest.approx(2e-3)
    assert one.idle == four.idle == 0.0
    assert one.disturbed == pytest.approx(0.5)
