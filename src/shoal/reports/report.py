# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page for one run, or for several side by side."""

import json
import shlex
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from shoal.errors import CheckpointError, ConfigError
from shoal.records import readable
from shoal.records.files import replace_file
from shoal.reports.curves import NUM_COLOURS, Axis, Series, line_chart, time_bar
from shoal.reports.flow_svg import LEGEND, flow_svg, kind_of
from shoal.reports.page import card, folded, grid, legend, page, section, table, tiles
from shoal.reports.race_table import cells, compare
from shoal.reports.run_data import RunData, labels, lags, longest_wait, read_run, role_seconds, speed_course

STEPS, SECONDS = Axis("env_steps"), Axis("training time", readable.tick_s)


@dataclass(frozen=True)
class Curve:
    """A metric's chart: title, vertical axis, and how it is drawn."""

    metric: str
    title: str
    axis: Axis
    from_zero: bool = True
    smooth: bool = True


_RETURN = Axis("mean of the last 100 episodes")
_CURVES = (
    Curve("policy_lag_mean", "Policy lag", Axis("versions, mean")),
    Curve("queue_fill_frac", "Queue fill", Axis("share of its slots", readable.percent)),
    Curve("episode_length_mean", "Episode length", Axis("agent steps, mean of the last 100"), smooth=False),
    Curve("grad_norm", "Gradient norm", Axis("before clipping")),
    Curve("step_norm", "Step norm", Axis("change of the params in an update")),
)


def write_report(run_dirs: list[Path], out: Path | None = None) -> Path:
    """Write the page and give its place: `out`, or report.html in the first folder.

    Raises:
      ConfigError: a folder holds no run, or the page cannot be written.

    Check: the page asks for nothing from outside itself.
    """
    if not run_dirs:
        raise ConfigError("a report needs a run folder; name the one that `shoal train` printed")
    runs = [read_run(Path(path)) for path in run_dirs]
    place = Path(out) if out is not None else runs[0].path / "report.html"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, render(runs).encode("utf-8", errors="replace"))
    except (OSError, CheckpointError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else str(fault).partition(": ")[2].partition(";")[0]
        raise ConfigError(f"report {place} cannot be written: {reason}; name another file with --out") from None
    return place


def render(runs: list[RunData]) -> str:
    """The page's text."""
    names = labels(runs)
    title = " · ".join(dict.fromkeys(f"{run.architecture} on {run.facts['env']}" for run in runs))
    body = _single_head(runs[0]) if len(runs) == 1 else _race_head(runs, names, title)
    body += [
        section("Learning", grid(_learning(runs, names))),
        section("What crossed between roles", *_flows(runs, names)),
        section("Where the time went", *_times(runs, names)),
        section("Speed and stability", grid(_curves(runs, names))),
        section("How it was run", *_settings(runs, names)),
    ]
    return page(title, body)


def _single_head(run: RunData) -> list[str]:
    facts = run.facts
    title = f"<h1>{escape(run.architecture)} on {escape(str(facts['env']))}</h1>"
    told = [f"seed {facts['seed']}", f"engine {facts['engine']}" if facts.get("engine") else ""]
    told += [str(facts.get("created", "")).replace("T", " ").replace("+00:00", " UTC"), str(run.path)]
    under = f'<p class="quiet">{escape(" · ".join(part for part in told if part))}</p>'
    mean, largest = lags(run)
    headline = [
        (readable.number(run.final_return), "mean return, last 100 episodes"),
        (readable.count(run.env_steps), "env_steps"),
        (readable.duration(run.wall_s), "training time"),
        (readable.count(run.env_steps_per_s), "env_steps per second, once started"),
    ]
    if mean is not None:
        headline.append((readable.number(mean), f"policy lag, at most {readable.number(largest)} versions"))
    if wait := longest_wait(run):
        headline.append((readable.percent(wait.share), f"of the {wait.role}'s time: waiting to {wait.wire}"))
    return [title, under, tiles(headline)]


def _race_head(runs: list[RunData], names: list[str], title: str) -> list[str]:
    compared = compare(runs)
    heads, lines = cells(compared)
    told = f"{len(runs)} runs: {title}"
    if compared.threshold is not None:
        goal = readable.number(compared.threshold)
        told += f". Steps and time are counted to a mean return of {goal}, the highest that every run reached."
    numbers = (1, 2, 3, 4, 6, 8)
    return [
        "<h1>Runs compared</h1>",
        f'<p class="quiet">{escape(told)}</p>',
        legend(names),
        '<div style="height:14px"></div>',
        card(table(heads, lines, numbers), wide=True),
    ]


def _learning(runs: list[RunData], names: list[str]) -> list[str]:
    by_steps = Curve("episode_return_mean", "Return by env_steps", _RETURN, from_zero=False, smooth=False)
    by_seconds = replace(by_steps, title="Return by seconds")
    charts = [_chart(runs, names, by_steps), _chart(runs, names, by_seconds, "wall_s", SECONDS)]
    return charts if any(charts) else [card('<p class="quiet">No episode ended.</p>')]


def _curves(runs: list[RunData], names: list[str]) -> list[str]:
    speeds = [
        Series(name, speed_course(run.rows), n % NUM_COLOURS)
        for n, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    speed = Axis("env_steps per second")
    cards = [card(line_chart(speeds, STEPS, speed, from_zero=True), "Speed", note=speed.label)]
    cards += [_chart(runs, names, curve) for curve in _CURVES]
    losses = dict.fromkeys(name for run in runs for row in run.rows for name in row if name.startswith("loss/"))
    for name in losses:
        axis = Axis(name.removeprefix("loss/").replace("_", " "))
        cards.append(_chart(runs, names, Curve(name, f"Loss: {axis.label}", axis, from_zero=False)))
    return cards


def _chart(runs: list[RunData], names: list[str], curve: Curve, by: str = "env_steps", x: Axis = STEPS) -> str:
    series = []
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        known = (row for row in run.rows if _is_number(row.get(curve.metric)) and _is_number(row.get(by)))
        series.append(Series(name, [(row[by], row[curve.metric]) for row in known], number % NUM_COLOURS))
    note = "" if curve.title.endswith(curve.axis.label) else curve.axis.label
    return card(line_chart(series, x, curve.axis, curve.from_zero, curve.smooth), curve.title, note=note)


def _flows(runs: list[RunData], names: list[str]) -> list[str]:
    parts = []
    for run, name in zip(runs, names, strict=True):
        kinds = {kind_of(row["message"]) for row in run.ledger}
        items = [f'<li><i class="stroke wire-{k}"></i>{told}</li>' for k, told in LEGEND if k in kinds]
        key = f'<ul class="legend">{"".join(items)}</ul>' if items else ""
        drawing = flow_svg(run.ledger, run.phases, run.waits) + key + folded("The ledger in numbers", _ledger(run))
        parts.append(card(drawing, name if len(runs) > 1 else "", wide=True))
    return parts


def _ledger(run: RunData) -> str:
    heads = ("system", "wire", "via", "messages", "bytes", "bytes each", "lag mean", "lag max")
    lines = [
        (
            str(row["system"]),
            f"{row['message']} {row['source']} > {row['target']}",
            str(row["via"]),
            f"{row['count']:,}",
            readable.nbytes(row["bytes"]),
            readable.nbytes(row["bytes"] / row["count"] if row["count"] else None),
            readable.number(row.get("lag_mean")),
            readable.number(row.get("lag_max")),
        )
        for row in run.ledger
    ]
    return table(heads, lines, range(3, 8)) if lines else ""


def _times(runs: list[RunData], names: list[str]) -> list[str]:
    phases = dict.fromkeys(name for run in runs for parts in run.phases.values() for name in parts)
    colours = {name: number % NUM_COLOURS for number, name in enumerate(phases)}
    parts = []
    for run, name in zip(runs, names, strict=True):
        bars = ""
        for role in {**run.phases, **run.waits}:
            bar = time_bar(run.phases.get(role, {}), run.waits.get(role, {}), colours)
            total = readable.duration(role_seconds(run, role))
            bars += f"<h3>{escape(role)} <small>{total} over its workers</small></h3>{bar}" if bar else ""
        if bars and (wait := longest_wait(run)):
            share = readable.percent(wait.share)
            told = f"Who waited most: the {wait.role}, {share} of its time, to {wait.wire}."
            bars += f'<p class="quiet" style="margin:14px 0 0">{escape(told)}</p>'
        parts.append(card(bars, name if len(runs) > 1 else "", wide=True))
    return parts


def _settings(runs: list[RunData], names: list[str]) -> list[str]:
    commands = [shlex.join(str(part) for part in run.facts.get("command") or []) for run in runs]
    if len(runs) > 1:
        shown = table(("run", "command"), zip(names, commands, strict=True))
    else:
        shown = f"<pre>{escape(commands[0])}</pre>" if commands[0] else ""
    config = _compared([_flat(run.facts["config"]) for run in runs], names, "setting")
    machine = _compared([_machine(run) for run in runs], names, "machine and versions")
    return [card(shown, "Command"), card(config, wide=True), card(machine, wide=True)]


def _compared(columns: list[dict[str, str]], names: list[str], head: str) -> str:
    """A line for each name; several runs get a column each, and lines that differ come first and marked."""
    keys = dict.fromkeys(key for column in columns for key in column)
    lines = [(key, *(column.get(key, "") for column in columns)) for key in keys]
    if len(columns) == 1:
        return table((head, "value"), lines)
    ordered = sorted(lines, key=lambda line: len(set(line[1:])) == 1)
    text = table((head, *names), ordered)
    differing = sum(len(set(line[1:])) > 1 for line in lines)
    return text.replace("<tbody>", "<tbody>\n").replace("<tr><td", '<tr class="differs"><td', differing)


def _machine(run: RunData) -> dict[str, str]:
    hardware, facts = run.hardware, run.facts
    devices = ", ".join(str(d.get("kind") or d.get("platform")) for d in hardware.get("devices") or [])
    told = {
        "processor": hardware.get("cpu_model"),
        "usable cores": readable.number(hardware["usable_cores"]) if hardware.get("usable_cores") else None,
        "memory": readable.nbytes(hardware["memory_bytes"]) if hardware.get("memory_bytes") else None,
        "devices": devices,
        "platform": hardware.get("platform"),
        "python": facts.get("python"),
        "shoal": facts.get("shoal_version"),
        "commit": facts.get("git_commit"),
        **(facts.get("libraries") or {}),
    }
    return {name: str(value) for name, value in told.items() if value}


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names."""
    if not isinstance(value, dict):
        return {prefix: value if isinstance(value, str) else json.dumps(value)}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
