# SPDX-License-Identifier: Apache-2.0
"""The race table: figures worked out by hand from made-up runs."""

from pathlib import Path

import pytest

from reports.made_runs import made_run
from shoal.reports.race_table import compare, plain_table, race_table, rich_table
from shoal.reports.run_data import labels, read_run, speed_course


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [made_run(tmp_path / "a", "ppo"), made_run(tmp_path / "b", "apex", rows=10)]


def test_figures_of_each_run(runs: list[Path]) -> None:
    table = race_table(runs)
    # both rise by 10 a row, and the second stops after 10 rows at 100
    assert table.threshold == 100.0
    first, second = table.entries
    assert (first.name, first.final_return, second.final_return) == ("ppo", 200.0, 100.0)
    assert first.env_steps_to_threshold == second.env_steps_to_threshold == 1000
    assert first.seconds_to_threshold == pytest.approx(7.0)
    assert first.env_steps_per_s == pytest.approx(200.0)
    assert first.crossed == {"TRAJ actor>learner": 1234, "PARAM learner>actor": 1234}
    assert first.crossed_bytes == 2 * 1_234_000
    assert first.waited == "learner: get TRAJ, 50%"
    assert (first.lag_mean, first.lag_max) == (1.25, 4)


def test_a_threshold_that_one_never_reached(runs: list[Path]) -> None:
    first, second = race_table(runs, threshold=150.0).entries
    assert first.env_steps_to_threshold == 1500
    assert second.env_steps_to_threshold is None and second.seconds_to_threshold is None


def test_runs_without_figures_get_dashes(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", rows=1)
    (run / "flow.json").unlink()
    text = plain_table(race_table([run]))
    assert "to threshold" in text and " - " in text


def test_plain_table_is_aligned(runs: list[Path]) -> None:
    lines = plain_table(race_table(runs)).splitlines()
    assert lines[0].startswith("run") and "steps to 100" in lines[0]
    start = lines[0].index("who waited most")
    assert lines[2][start:].startswith("learner: get TRAJ, 50%")
    # one line for each wire
    assert len(lines) == 2 + 2 + 4


@pytest.mark.parametrize("width", [60, 100, 160])
def test_rich_table_fits_the_terminal(runs: list[Path], width: int) -> None:
    import io

    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=width).print(rich_table(race_table(runs)))
    assert all(len(line) <= width for line in stream.getvalue().splitlines())
    assert "ppo" in stream.getvalue()


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    def named(*runs: tuple[str, str, int]) -> list[str]:
        made = [
            made_run(tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}", *run) for number, run in enumerate(runs)
        ]
        return labels([read_run(path) for path in made])

    assert named(("ppo", "x", 0), ("a2c", "x", 0)) == ["ppo", "a2c"]
    assert named(("ppo", "x", 0), ("ppo", "y", 0)) == ["ppo x", "ppo y"]
    assert named(("ppo", "x", 0), ("ppo", "x", 1)) == ["ppo seed 0", "ppo seed 1"]
    assert named(("ppo", "x", 0), ("ppo", "y", 0), ("ppo", "x", 1)) == ["ppo x seed 0", "ppo y seed 0", "ppo x seed 1"]
    assert len(set(named(("ppo", "x", 0), ("ppo", "x", 0)))) == 2


def test_speed_of_an_even_pace_is_that_pace(runs: list[Path]) -> None:
    run = read_run(runs[0])
    assert [speed for _, speed in speed_course(run.rows)] == pytest.approx([200.0] * 20)
    assert speed_course([]) == [] and compare([run]).entries[0].env_steps_per_s == pytest.approx(200.0)
