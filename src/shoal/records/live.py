# SPDX-License-Identifier: Apache-2.0
"""The run as it happens: a live view in a terminal, plain lines anywhere else."""

import math
import os
import sys
from types import TracebackType
from typing import IO, Any

from shoal.records import readable

Seconds = dict[str, dict[str, float]]

LINE_SHARE, LINE_SECONDS = 0.05, 10.0
MAX_POINTS = 1024

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_yellow")


def is_live(stream: IO[str]) -> bool:
    """Whether a moving view suits this stream: a terminal that is not dumb, and NO_COLOR unset."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb") and not os.environ.get("NO_COLOR")


class Console:
    """Shows rows of metrics. Use it as a context manager: leaving it restores the terminal, whatever happened.

    Args:
      total_env_steps: where the progress bar ends.
      is_terminal: None asks the stream.
      title: for example "impala · CartPole-v1 · seed 0".
      stream: None means standard output.
    """

    def __init__(
        self,
        total_env_steps: int,
        is_terminal: bool | None = None,
        title: str = "",
        stream: IO[str] | None = None,
    ) -> None:
        self.total = max(total_env_steps, 1)
        self.title = title
        self._stream = stream or sys.stdout
        self._returns: list[float] = []
        self._printed = (-self.total, 0.0)
        self._live = self._open_live() if (is_live(self._stream) if is_terminal is None else is_terminal) else None

    def show(self, row: dict[str, Any], phases: Seconds | None = None, waits: Seconds | None = None) -> None:
        """One row of metrics, as often as you like.

        Args:
          phases: {role: {phase: seconds}}, cumulative or of late; None takes the row's, which know no roles.
          waits: {role: {wire: seconds}}, likewise.
        """
        if row.get("episode_return_mean") is not None:
            self._returns.append(row["episode_return_mean"])
            if len(self._returns) > MAX_POINTS:
                self._returns = self._returns[::2]
        if self._live is None:
            if self._is_due(row):
                self._print(plain_line(row, self.total))
            return
        if phases is None:
            phases, waits = _of_row(row)
        self._live.update(self._view(row, phases, waits or {}), refresh=True)

    def message(self, text: str) -> None:
        """A line that stays: above the live view, or among the plain lines."""
        if self._live is None:
            self._print(text)
        else:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the last view standing and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __enter__(self) -> "Console":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_due(self, row: dict[str, Any]) -> bool:
        """Logs are read afterwards: a line each 5 % of the way, or each 10 s where that is slower, and the last."""
        steps, wall_s = row.get("env_steps", 0), row.get("wall_s", 0.0)
        last_steps, last_wall_s = self._printed
        ended = steps >= self.total > last_steps
        if not ended and steps < last_steps + LINE_SHARE * self.total and wall_s < last_wall_s + LINE_SECONDS:
            return False
        self._printed = (steps, wall_s)
        return True

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:
            # the reader of the pipe (head, less) has left: training goes on
            self._stream = open(os.devnull, "w")  # noqa: SIM115

    def _open_live(self) -> Any:
        from rich.console import Console as Terminal
        from rich.live import Live

        # no refresh of its own: nothing moves between rows, and no thread is needed
        live = Live(console=Terminal(file=self._stream), auto_refresh=False, transient=False)
        live.start()
        return live

    def _view(self, row: dict[str, Any], phases: Seconds, waits: Seconds) -> Any:
        from rich.panel import Panel
        from rich.text import Text

        assert self._live is not None
        width = min(self._live.console.width, 100)
        inner = max(width - 4, 16)
        lines = [_progress(row, self.total, inner), *_facts(row, self._returns, inner)]
        lines += _time_split(phases, waits, inner)
        body = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        return Panel(body, title=Text(self.title, style="bold"), title_align="left", width=width, border_style="dim")


def plain_line(row: dict[str, Any], total_env_steps: int) -> str:
    """The row as one line for logs."""
    steps = row.get("env_steps", 0)
    parts = [f"env_steps {steps:,}/{total_env_steps:,} ({readable.percent(steps / total_env_steps)})"]
    if row.get("episode_return_mean") is not None:
        parts.append(f"return {readable.number(row['episode_return_mean'])}")
    if row.get("env_steps_per_s") is not None:
        parts.append(f"{readable.count(row['env_steps_per_s'])} steps/s")
    if row.get("policy_lag_mean") is not None:
        parts.append(f"lag {readable.number(row['policy_lag_mean'])} max {readable.number(row.get('policy_lag_max'))}")
    if row.get("queue_fill_frac") is not None:
        parts.append(f"queue {readable.percent(row['queue_fill_frac'])}")
    if row.get("wall_s") is not None:
        parts.append(f"{readable.duration(row['wall_s'])} gone")
    if steps < total_env_steps and (eta := eta_s(row, total_env_steps)) is not None:
        parts.append(f"{_rough(eta)} to go")
    return " | ".join(parts)


def eta_s(row: dict[str, Any], total_env_steps: int) -> float | None:
    """Seconds to go at the current speed; None before a speed is known."""
    speed = row.get("env_steps_per_s")
    return max(total_env_steps - row.get("env_steps", 0), 0) / speed if speed else None


def _rough(seconds: float) -> str:
    return readable.duration(math.ceil(seconds)).replace(".0 s", " s")


def _of_row(row: dict[str, Any]) -> tuple[Seconds, Seconds]:
    """Phases and waits as the row has them. Its phases know no roles, so all workers share one bar."""
    phases = {name.partition("/")[2]: s for name, s in row.items() if name.startswith("phase_s/") and s}
    waits = {name.partition("/")[2].replace("/", " "): s for name, s in row.items() if name.startswith("wait_s/") and s}
    return {"workers": phases}, {"workers": waits}


def _progress(row: dict[str, Any], total: int, width: int) -> Any:
    from rich.text import Text

    steps = row.get("env_steps", 0)
    share = min(steps / total, 1.0)
    figures = f" {readable.percent(share)}  {readable.count(steps)} of {readable.count(total)} steps"
    if (eta := eta_s(row, total)) is not None and share < 1:
        figures += f"  {_rough(eta)} to go"
    bar = max(width - len(figures), 8)
    filled = round(share * bar)
    return Text.assemble(("━" * filled, "bold cyan"), ("━" * (bar - filled), "bright_black"), figures)


def _facts(row: dict[str, Any], returns: list[float], width: int) -> list[Any]:
    from rich.text import Text

    episodes = row.get("episodes")
    facts = [
        ("return", readable.number(row.get("episode_return_mean")), f"mean of the last 100 of {episodes:,} episodes")
        if episodes
        else ("return", "-", "no episode has ended yet"),
        ("speed", f"{readable.count(row.get('env_steps_per_s'))} steps/s", _speed_note(row)),
    ]
    if row.get("policy_lag_mean") is not None:
        worst = f"max {readable.number(row.get('policy_lag_max'))} versions"
        facts.append(("lag", f"{readable.number(row['policy_lag_mean'])} mean", worst))
    if (fill := row.get("queue_fill_frac")) is not None:
        tenths = round(fill * 10)
        facts.append(("queue", f"{readable.percent(fill)} full", "▰" * tenths + "▱" * (10 - tenths)))
    lines = []
    for name, value, note in facts:
        lines.append(Text.assemble((f"{name:<8}", "bold"), f"{value:<14}", (note, "bright_black")))
    spare = width - len(lines[0].plain) - 2
    if len(returns) > 1 and spare >= 6:
        lines[0].append("  " + readable.sparkline(returns, min(spare, 28)), "green")
    return lines


def _speed_note(row: dict[str, Any]) -> str:
    parts = [f"{readable.duration(row['wall_s'])} gone"] if row.get("wall_s") is not None else []
    if row.get("updates") is not None:
        parts.append(f"{row['updates']:,} updates")
    return ", ".join(parts)


def _time_split(phases: Seconds, waits: Seconds, width: int) -> list[Any]:
    """One bar and one legend per role; work in colours, waiting in grey."""
    from rich.text import Text

    lines = []
    for role in {**phases, **waits}:
        work = sorted(phases.get(role, {}).items(), key=lambda item: -item[1])
        waiting = sorted(waits.get(role, {}).items(), key=lambda item: -item[1])
        parts = [(name, s, _COLOURS[i % len(_COLOURS)]) for i, (name, s) in enumerate(work)]
        parts += [(f"wait {name}", s, "bright_black") for name, s in waiting]
        total = sum(s for _, s, _ in parts)
        if total <= 0:
            continue
        # roles are set off by their name's column, so names longer than it take its width from the bar
        label = f"{role:<8}" if len(role) < 8 else f"{role} "
        line = Text(label, style="bold")
        bar = max(min(width // 3, width - len(label)), 4)
        for length, (_, _, colour) in zip(_cells([s for _, s, _ in parts], bar), parts, strict=True):
            line.append("█" * length, colour)
        for name, seconds, colour in parts:
            if seconds / total >= 0.01:
                line.append(" " + name, colour).append(f" {readable.percent(seconds / total)}", "bright_black")
        lines.append(line)
    return lines


def _cells(seconds: list[float], width: int) -> list[int]:
    """Whole cells per part that add up to `width`: each edge is rounded, not each part."""
    total, edge, cells = sum(seconds), 0.0, []
    before = 0
    for part in seconds:
        edge += part
        now = round(edge / total * width)
        cells.append(now - before)
        before = now
    return cells
