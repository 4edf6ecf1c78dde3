# SPDX-License-Identifier: Apache-2.0
"""The live view: plain lines for logs, a terminal that is given back, any width."""

import io
import re

import pytest

from shoal.records import readable
from shoal.records.live import Console, eta_s, is_live, plain_line

ROW = {
    "env_steps": 40_000,
    "wall_s": 8.0,
    "updates": 125,
    "episodes": 312,
    "episode_return_mean": 187.25,
    "env_steps_per_s": 5_000.0,
    "policy_lag_mean": 1.25,
    "policy_lag_max": 4,
    "queue_fill_frac": 0.62,
    "phase_s/env_step": 3.0,
    "phase_s/update": 1.0,
    "wait_s/learner/get TRAJ": 2.0,
}
PHASES = {"actor": {"env_step": 3.0, "act": 1.0}, "learner": {"update": 3.0}}
WAITS = {"actor": {}, "learner": {"get TRAJ": 1.0}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(width: int, row: dict, monkeypatch: pytest.MonkeyPatch, **parts) -> tuple[list[str], str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Console(100_000, True, "ppo · CartPole-v1 · seed 0", stream) as console:
        console.show(row, **parts)
        console.show({**row, "episode_return_mean": 190.0}, **parts)
    text = stream.getvalue()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    return [line.rstrip() for line in lines if line.strip()], text


def test_plain_line_holds_the_main_figures() -> None:
    line = plain_line(ROW, 100_000)
    for part in (
        "env_steps 40,000/100,000 (40%)",
        "return 187",
        "steps/s",
        "lag 1.25 max 4",
        "queue 62%",
        "12 s to go",
    ):
        assert part in line
    assert eta_s(ROW, 100_000) == pytest.approx(12.0)


def printed(*rows: dict) -> list[str]:
    stream = io.StringIO()
    with Console(1000, stream=stream) as console:
        console.message("run folder runs/x")
        for row in rows:
            console.show(row)
    assert "\x1b" not in stream.getvalue()
    return stream.getvalue().splitlines()


def test_plain_mode_prints_a_line_each_5_percent_and_the_last() -> None:
    lines = printed(*({"env_steps": steps} for steps in range(0, 1001, 7)), {"env_steps": 1001}, {"env_steps": 1002})
    assert lines[:2] == ["run folder runs/x", "env_steps 0/1,000 (0%)"]
    assert lines[2].startswith("env_steps 56/") and lines[-1] == "env_steps 1,001/1,000 (100%)"
    assert len(lines) == 20


def test_plain_mode_prints_slow_runs_each_10_seconds() -> None:
    lines = printed(*({"env_steps": s, "wall_s": 4.0 * s} for s in range(12)))
    assert [line.split()[1] for line in lines[1:]] == ["0/1,000", "3/1,000", "6/1,000", "9/1,000"]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_every_width_is_kept(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = drawn(width, ROW, monkeypatch, phases=PHASES, waits=WAITS)
    assert all(len(line) <= width for line in lines)


def test_live_view_shows_roles_and_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(drawn(100, ROW, monkeypatch, phases=PHASES, waits=WAITS)[0])
    for part in ("40%", "187", "5,000 steps/s", "62% full", "env_step 75%", "update 75%", "wait get TRAJ 25%", "max 4"):
        assert part in text


def test_without_roles_all_workers_share_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(drawn(100, ROW, monkeypatch)[0])
    assert "workers" in text and "env_step 50%" in text and "wait learner get TRAJ 33%" in text


def test_a_row_with_nothing_in_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = drawn(80, {}, monkeypatch)
    assert any("no episode has ended yet" in line for line in lines)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
def test_the_cursor_comes_back_after_a_fault(fault: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with pytest.raises(fault), Console(10, True, stream=stream) as console:
        console.show(ROW)
        raise fault
    text = stream.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_messages_are_not_read_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with Console(10, True, stream=stream) as console:
        console.message("env [bold]x[/] loaded")
    assert "env [bold]x[/] loaded" in stream.getvalue()


@pytest.mark.parametrize(
    ("term", "no_color", "live"), [("xterm", "", True), ("dumb", "", False), ("", "", False), ("xterm", "1", False)]
)
def test_when_the_view_moves(term: str, no_color: str, live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert is_live(Terminal()) is live
    assert not is_live(io.StringIO())


def test_a_reader_that_leaves_does_not_stop_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    console = Console(10, stream=Closed())
    console.show(ROW)
    console.show(ROW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (readable.count(None), "-"),
        (readable.count(1234), "1,234"),
        (readable.count(15_230.4), "15.2k"),
        (readable.count(100_000), "100k"),
        (readable.count(4_100_000), "4.10M"),
        (readable.count(0.25), "0.25"),
        (readable.number(-19.96), "-20.0"),
        (readable.number(0.0), "0"),
        (readable.number(3e-4), "3.00e-04"),
        (readable.number(float("nan")), "-"),
        (readable.nbytes(999), "999 B"),
        (readable.nbytes(1_234_567), "1.23 MB"),
        (readable.duration(9.31), "9.3 s"),
        (readable.duration(59.96), "1:00"),
        (readable.duration(7384), "2:03:04"),
        (readable.percent(0.004), "<1%"),
        (readable.percent(0), "0%"),
        (readable.sparkline([1, 2, 3, 4], 4), "▁▃▆█"),
        (readable.sparkline([5, 5], 9), "▁▁"),
        (readable.sparkline(range(100), 3), "▁▄█"),
        (readable.sparkline([], 5), ""),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected
