# SPDX-License-Identifier: Apache-2.0
"""Charts: round ticks, points inside the frame, spikes kept."""

import random
import re
from xml.etree import ElementTree

import pytest

from shoal.records import readable
from shoal.reports.curves import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Series,
    line_chart,
    moving_mean,
    thinned,
    ticks,
    time_bar,
)


@pytest.mark.parametrize(
    "span", [(0, 1), (0, 500), (-21, 21), (3, 3), (0, 0), (1e-9, 3e-9), (-5e8, 7e9), (0.1, 0.1001)]
)
def test_ticks_are_round_and_take_in_the_values(span: tuple[float, float]) -> None:
    found = ticks(*span, 5)
    step = found[1] - found[0]
    assert found[0] <= span[0] + step * 1e-6 and found[-1] >= span[1] - step * 1e-6
    assert 2 <= len(found) <= 9
    assert all(abs(value / step - round(value / step)) < 1e-6 for value in found)


def test_points_lie_inside_the_frame() -> None:
    chance = random.Random(0)
    for trial in range(30):
        points = sorted((chance.uniform(0, 10**trial), chance.gauss(0, 10 ** (trial - 15))) for _ in range(50))
        text = line_chart([Series("a", points)], Axis("x"), Axis("y"), smooth=trial % 2 == 0)
        assert ElementTree.fromstring(text) is not None
        for path in re.findall(r'class="line[^"]*" d="M([^"]+)"', text):
            for pair in path.split("L"):
                x, y = (float(part) for part in pair.split())
                assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1


def test_a_single_point_is_a_dot_and_none_is_nothing() -> None:
    assert "<circle" in line_chart([Series("a", [(5.0, 3.0)])], Axis("x"), Axis("y"))
    assert line_chart([Series("a", [])], Axis("x"), Axis("y")) == ""


def test_each_series_keeps_its_colour_and_name() -> None:
    series = [Series("<one>", [(0, 0), (1, 1)], 0), Series("none", [], 1), Series("two", [(0, 1), (1, 0)], 2)]
    text = line_chart(series, Axis("x"), Axis("y"))
    assert "series-0" in text and "series-1" not in text and "series-2" in text
    assert "<one>" not in text and "&lt;one&gt;" in text


def test_thinning_keeps_the_spikes() -> None:
    points = [(float(x), 0.0) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    points[77] = (77.0, -9.0)
    kept = thinned(points)
    assert len(kept) <= MAX_POINTS + 2 and points[4321] in kept and points[77] in kept
    assert kept == sorted(kept, key=lambda point: point[0])


def test_moving_mean_leaves_a_straight_line_alone() -> None:
    line = [(float(x), 3.0 * x - 7) for x in range(101)]
    assert [x for x, _ in moving_mean(line)] == [x for x, _ in line]
    assert [y for _, y in moving_mean(line)] == pytest.approx([y for _, y in line])
    assert moving_mean([(1.0, 5.0)]) == [(1.0, 5.0)]


def test_time_bars_add_up_to_the_whole() -> None:
    text = time_bar({"act": 1.0, "env_step": 2.0}, {"put <TRAJ>": 1.0}, {"act": 0, "env_step": 1})
    shares = [float(share) for share in re.findall(r"width:([\d.]+)%", text)]
    assert shares == [50.0, 25.0, 25.0]
    assert "&lt;TRAJ&gt;" in text and "<TRAJ>" not in text
    assert time_bar({}, {}, {}) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (readable.tick(20_000.0), "20k"),
        (readable.tick(0.30000000000000004), "0.3"),
        (readable.tick(-1.5e6), "-1.5M"),
        (readable.tick_s(20.0), "20 s"),
        (readable.tick_s(300.0), "5:00"),
    ],
)
def test_ticks_read_well(text: str, expected: str) -> None:
    assert text == expected
