# SPDX-License-Identifier: Apache-2.0
"""A prediction as a person reads it. Plain text, so that a log and a terminal show the same."""

from collections.abc import Sequence

from shoal.engines import IN_PROCESSES
from shoal.placement.accelerators import IN_SHORT
from shoal.placement.devices import Stage
from shoal.placement.prediction import Prediction
from shoal.placement.profile import Profile
from shoal.records.readable import count, nbytes, percent

BAR = 24
"""characters of the longest bar"""


def render(profile: Profile, found: Prediction) -> str:
    """One prediction: pace, what limits it, who is busy, what crosses."""
    settings = ", ".join(f"{name}={value}" for name, value in found.settings.items())
    lines = [
        f"{found.architecture} on {profile.env.id}{f' with {settings}' if settings else ''}",
        f"{found.machine.name}: {found.machine.words}, {workers_words(found.engine)} (simulated, not run)",
        *node_lines(found),
        "",
        f"  {count(found.env_steps_per_s)} steps/s, {count(found.updates_per_s)} updates/s",
        f"  limit: {found.limit}",
        f"  lag {found.lag_mean:.1f} updates in the mean, {found.lag_max} at most; each row learnt from "
        f"{found.reuse:g}x; {nbytes(found.data_bytes)} of unrolls and params"
        f"{'' if found.fits else ', more than the memory of the machine'}",
        "",
        *placed_lines(found),
        "  busy",
    ]
    for name, role in found.roles.items():
        words = f"{name} x{role.workers}" if role.workers > 1 else name
        lines.append(f"    {words:<24}{percent(role.busy):>5}  {bar(role.busy)}")
    lines += [f"    {name:<24}{percent(share):>5}  {bar(share)}" for name, share in found.shared.items()]
    lines += ["", f"  {'crosses':<34}{'messages/s':>12}{'bytes/s':>12}"]
    for wire in found.wires:
        words = f"{wire.message} {wire.source}>{wire.target}"
        lines.append(f"    {words:<32}{count(wire.per_s):>12}{nbytes(wire.bytes_per_s):>12}")
    return "\n".join(lines)


def workers_words(engine: str) -> str:
    """Where workers are."""
    return "workers on nodes of ray" if engine == "ray" else f"workers as {engine}"


def node_lines(found: Prediction) -> list[str]:
    """That messages between nodes cost what those of one machine do, where the profile knows no better."""
    if found.machine.nodes == 1 or found.engine == "ray":
        return []
    return [
        "  between nodes a message costs what it does on one machine, and the link; what the agents of nodes compute",
        "  is not in this profile: shoal advise --engine ray measures it",
    ]


def placed_lines(found: Prediction) -> list[str]:
    """Where acting and learning are computed and by what figures; nothing for a machine without accelerators."""
    places, device = found.places, found.machine.device
    if places.figures is None:
        return []
    lines = [
        f"  acting on {stage_words(places.act, 'observations', places.figures)}",
        f"  learning on {stage_words(places.learn, 'rows', places.figures)}",
    ]
    if places.constants is None:
        lines.append(f"  {device} is measured: by the profile, transfer included")
    else:
        lines += [f"  {device} is modelled, not measured: {places.constants}", f"  ({IN_SHORT})"]
    if places.share is not None and found.engine in IN_PROCESSES:
        lines.append(f"  workers in processes act on cores unless told: --device-memory-frac {places.share:.2g}")
    if not places.holds:
        lines.append(f"  a batch and the params are more than the memory of one {device}")
    return [*lines, ""]


def stage_words(stage: Stage, unit: str, figures: str) -> str:
    """A stage's place, and what a call would take on either side."""
    where = stage.device or "cores"
    gpu = f"{1e3 * (stage.gpu_s or 0.0):.3g} ms {figures}"
    why = "as asked" if stage.asked else "the cheaper"
    return f"{where} ({why}: {count(stage.size)} {unit} take {1e3 * stage.cpu_s:.3g} ms on cores, {gpu} on a device)"


def render_over(field: str, values: Sequence[int], found: Sequence[Prediction]) -> str:
    """A curve over the values of a field, the point from which on it bends, and what the limit is where."""
    most = max(one.env_steps_per_s for one in found)
    lines = ["", f"  {field:<14}{'steps/s':>10}{'gain each':>11}{'lag':>7}  {'':<{BAR}}  limit"]
    for i, (value, one) in enumerate(zip(values, found, strict=True)):
        gain = f"{marginal(values, found, i):.2f}" if i else "-"
        figures = f"{count(one.env_steps_per_s):>10}{gain:>11}{one.lag_mean:>7.1f}"
        lines.append(f"  {value:<14}{figures}  {bar(one.env_steps_per_s / most):<{BAR}}  {one.limit}")
    lines.append(f"  gain each: what {field} brings over the row above, 1 where twice as much is twice as fast")
    bend = next((values[i] for i in range(1, len(values)) if marginal(values, found, i) < 0.5), None)
    lines.append("  it does not bend here" if bend is None else f"  it bends before {field}={bend}")
    return "\n".join(lines)


def marginal(values: Sequence[int], found: Sequence[Prediction], i: int) -> float:
    """Share of the growth of a field from the value before that came out as growth of pace.

    Check: 1 where the pace is proportional to the field, 0 where it stays.
    """
    more = values[i] / values[i - 1] - 1
    return (found[i].env_steps_per_s / found[i - 1].env_steps_per_s - 1) / more if more else 0.0


def bar(share: float) -> str:
    """A share as a line."""
    return "#" * round(BAR * min(1.0, max(0.0, share)))
