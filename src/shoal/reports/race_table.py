# SPDX-License-Identifier: Apache-2.0
"""One table for several finished runs: who learned by steps and by seconds, what crossed, who waited."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.records import readable
from shoal.reports.run_data import RunData, common_threshold, labels, lags, longest_wait, read_run

TITLES = (
    "run",
    "return at end",
    "steps to {threshold}",
    "time to {threshold}",
    "steps/s",
    "what crossed",
    "bytes crossed",
    "who waited most",
    "lag mean / max",
)
"""column heads; {threshold} is the return that is compared"""


@dataclass(frozen=True)
class Entry:
    """One run's line."""

    name: str
    final_return: float | None
    env_steps_to_threshold: int | None
    seconds_to_threshold: float | None
    env_steps_per_s: float | None
    crossed: dict[str, int]
    """messages by "MESSAGE source>target" """
    crossed_bytes: int
    waited: str
    """role: wire, share of the role's time"""
    lag_mean: float | None
    lag_max: float | None


@dataclass(frozen=True)
class RaceTable:
    """Entries in the order of the runs, and the return that they are timed to."""

    threshold: float | None
    entries: list[Entry]


def race_table(run_dirs: list[Path], threshold: float | None = None) -> RaceTable:
    """Compare finished runs.

    Args:
      threshold: mean return to time; None takes the highest that every run reached.

    Raises:
      ConfigError: a folder holds no run.
    """
    return compare([read_run(Path(path)) for path in run_dirs], threshold)


def compare(runs: list[RunData], threshold: float | None = None) -> RaceTable:
    """`race_table` over runs already read."""
    goal = common_threshold(runs) if threshold is None else threshold
    return RaceTable(goal, [_entry(run, name, goal) for run, name in zip(runs, labels(runs), strict=True)])


def cells(table: RaceTable) -> tuple[list[str], list[list[str]]]:
    """Heads and lines as text, for whatever draws them."""
    goal = "threshold" if table.threshold is None else readable.number(table.threshold)
    return [title.format(threshold=goal) for title in TITLES], [_line(entry) for entry in table.entries]


def plain_table(table: RaceTable) -> str:
    """The table as aligned text, without colours."""
    heads, lines = cells(table)
    # the list of wires is the one cell with many parts: each part gets a line of its own
    split = [[cell.split("\n") for cell in line] for line in [heads, *lines]]
    widths = [max(len(part) for line in split for part in line[column]) for column in range(len(heads))]
    text = []
    for number, line in enumerate(split):
        for depth in range(max(len(cell) for cell in line)):
            parts = [(cell[depth] if depth < len(cell) else "") for cell in line]
            text.append("  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip())
        if number == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join(text)


def rich_table(table: RaceTable) -> Any:
    """The table for a terminal that has colours; print it with rich."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads, lines = cells(table)
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", row_styles=["", "dim"])
    for head in heads:
        right = head not in (TITLES[0], "what crossed", "who waited most")
        drawn.add_column(head, justify="right" if right else "left", overflow="fold")
    for line in lines:
        drawn.add_row(Text(line[0], style="bold cyan"), *(Text(cell) for cell in line[1:]))
    return drawn


def _entry(run: RunData, name: str, goal: float | None) -> Entry:
    reached = run.first_reaching(goal) if goal is not None else None
    wait = longest_wait(run)
    mean, largest = lags(run)
    crossed: dict[str, int] = {}
    for row in run.ledger:
        if row["count"]:
            wire = f"{row['message']} {row['source']}>{row['target']}"
            crossed[wire] = crossed.get(wire, 0) + row["count"]
    return Entry(
        name=name,
        final_return=run.final_return,
        env_steps_to_threshold=reached["env_steps"] if reached else None,
        seconds_to_threshold=reached.get("wall_s") if reached else None,
        env_steps_per_s=run.env_steps_per_s,
        crossed=crossed,
        crossed_bytes=sum(row["bytes"] for row in run.ledger),
        waited=f"{wait.role}: {wait.wire}, {readable.percent(wait.share)}" if wait else "-",
        lag_mean=mean,
        lag_max=largest,
    )


def _line(entry: Entry) -> list[str]:
    return [
        entry.name,
        readable.number(entry.final_return),
        readable.count(entry.env_steps_to_threshold),
        readable.duration(entry.seconds_to_threshold),
        readable.count(entry.env_steps_per_s),
        "\n".join(f"{wire} × {readable.count(count)}" for wire, count in entry.crossed.items()) or "-",
        readable.nbytes(entry.crossed_bytes),
        entry.waited,
        f"{readable.number(entry.lag_mean)} / {readable.number(entry.lag_max)}",
    ]
