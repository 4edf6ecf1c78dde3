# SPDX-License-Identifier: Apache-2.0
"""Advice as a person reads it: a table of stages, the limits, what was compared, the verdict. Rich draws it."""

from math import inf

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shoal.placement.bounds import bound_words
from shoal.placement.profile import Profile, Trial
from shoal.placement.stages import BOXES, NO_GPU
from shoal.placement.unit_costs import host_curve
from shoal.placement.verdict import Advice, Limits, describe, race
from shoal.records.readable import count, percent, plus_minus

PLAIN_WIDTH = 120
"""columns where the output is no terminal"""
TABLE_WIDTH = 96
"""columns from which on the stages are a table; on fewer its sentences would stand one word above another"""


def render(advice: Advice, profile: Profile, width: int = PLAIN_WIDTH) -> RenderableType:
    """Everything, for rich to print on so many columns."""
    trial = advice.trial
    measured = f"{trial.architecture}, {describe(trial)}: {count(trial.env_steps_per_s)} steps/s"
    return Group(
        _title(profile),
        _head("Where the time goes", measured),
        stage_table(advice) if width >= TABLE_WIDTH else stage_list(advice),
        _head("Limits", "agent steps a second in this layout, if the other parts cost nothing"),
        _indented(limits_text(profile, advice.limits, trial)),
        _head("Compared on this machine", ""),
        choice_table(advice),
        _head("Verdict", ""),
        _indented(Text("\n").join(Text(reason) for reason in advice.reasons)),
        _indented(Text.assemble(("\nRun    ", "bold"), (advice.command, "bold green"))),
        *compare_lines(profile),
    )


def compare_lines(profile: Profile) -> list[RenderableType]:
    """What to run to see which learns fastest."""
    line = race(profile)
    if line is None:
        return []
    why = Text("       steps/s is not learning: that compares returns", style="dim")
    return [_indented(Text.assemble(("Then   ", "bold"), (line, "green"))), _indented(why)]


def stage_table(advice: Advice) -> Table:
    """One row a stage, under the boxes they belong to."""
    table = _table()
    for name in ("stage", "share", "us/step"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    table.add_column("can it be parallelised, and how?", ratio=1)
    table.add_column("CPU or GPU?", max_width=14)
    table.add_column("GPU from", max_width=14)
    largest = max(advice.stages, key=lambda stage: stage.share)
    for group in BOXES:
        table.add_row(Text(group, style="bold cyan"))
        for stage in (s for s in advice.stages if s.box == group):
            style = "bold" if stage is largest else ""
            figures = (percent(stage.share), microseconds(stage.per_step_s))
            table.add_row(
                Text("  " + stage.name, style=style),
                *(Text(figure, style=style) for figure in figures),
                Text(stage.parallel),
                Text(stage.device),
                Text(stage.break_even),
            )
    return table


def stage_list(advice: Advice) -> RenderableType:
    """The same on few columns: figures on one line, the sentence below it."""
    lines: list[RenderableType] = []
    for group in BOXES:
        lines.append(Text(" " + group, style="bold cyan"))
        for stage in (s for s in advice.stages if s.box == group):
            break_even = {"-": "", NO_GPU: f"; {NO_GPU}"}.get(stage.break_even, f"; GPU from {stage.break_even}")
            figures = f"{percent(stage.share):>4} {microseconds(stage.per_step_s):>7} us/step"
            lines.append(Text(f"   {stage.name:<20}{figures}   {stage.device}{break_even}"))
            lines.append(Padding(Text(stage.parallel, style="dim"), (0, 0, 0, 7)))
    return Group(*lines)


def microseconds(seconds: float) -> str:
    """Microseconds with three digits that matter."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def limits_text(profile: Profile, limits: Limits, trial: Trial) -> Text:
    """The parts alone, each with its noise, then together; what bounds the environment."""
    batch = trial.settings["envs_per_actor"]
    parts = (
        ("simulator", limits.simulator, profile.env_step.near(batch)),
        ("inference", limits.inference, host_curve(profile, batch)[1].near(batch)),
        ("update", limits.update, profile.update["cpu"].near(trial.rows)),
    )
    alone = " · ".join(f"{name} {count(rate)}{plus_minus(point.noise)}" for name, rate, point in parts if rate < inf)
    both = f"in turn {count(limits.series)} · overlapped on these cores {count(limits.overlapped)}"
    measured = f"measured {count(trial.env_steps_per_s)}{plus_minus(trial.noise)}"
    return Text(f"{alone}\n{both} · {measured}\nenvironment: {bound_words(profile)}")


def choice_table(advice: Advice) -> Table:
    """What was run and what was predicted, fastest first; the recommended one is marked."""
    table = _table()
    table.add_column("")
    table.add_column("architecture")
    table.add_column("layout", ratio=1)
    for name in ("steps/s", "from", "each sample", "lag"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in advice.choices:
        mine = trial is advice.best
        table.add_row(
            Text(">" if mine else " ", style="bold green"),
            Text(trial.architecture, style="bold" if mine else ""),
            Text(describe(trial) + ("" if trial.same_learning else " (learns otherwise)")),
            count(trial.env_steps_per_s) + plus_minus(trial.noise),
            Text("predicted" if trial.simulated else "measured", style="dim" if trial.simulated else ""),
            f"{trial.passes}x",
            "-" if trial.lag_mean is None else f"{trial.lag_mean:.1f}",
        )
    return table


def _title(profile: Profile) -> RenderableType:
    hardware = profile.hardware
    devices = ", ".join(f"{d['platform']} ({d['kind']})" for d in hardware["devices"] if d["platform"] != "cpu")
    facts = (
        f"observations {profile.env.obs_words} · network of {profile.params:,} numbers\n"
        f"{profile.cores:g} cores, {hardware['cpu_model']} · {devices or 'no GPU seen'}"
        f" · measured in {profile.measured_s:.0f} s"
    )
    return Text(profile.env.id + "\n", style="bold") + Text(facts, style="dim")


def _head(title: str, more: str) -> Text:
    return Text("\n" + title, style="bold") + Text(f"  {more}", style="dim")


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=True, header_style="dim", expand=True)
