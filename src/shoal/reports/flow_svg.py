# SPDX-License-Identifier: Apache-2.0
"""The flow of a run as inline SVG: a box for each role, an arrow for each ledger row."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from shoal.records import readable
from shoal.reports.flow_layout import CORNER, Layout, Point, Rect, Wire, place

Row = dict[str, Any]
Seconds = Mapping[str, Mapping[str, float]]

_KINDS = {
    **dict.fromkeys(("TRAJ", "TRANS", "BATCH", "GAME"), "data"),
    **dict.fromkeys(("PARAM", "WEIGHTS"), "params"),
    "GRAD": "grad",
    **dict.fromkeys(("OBS", "ACT"), "step"),
}
"""class of each message, which colours it; all others are signals: PRIO, RETURN, FITNESS"""
LEGEND = (
    ("data", "experience"),
    ("params", "params"),
    ("grad", "gradients"),
    ("step", "observations and actions"),
    ("signal", "signals"),
)


def flow_svg(rows: list[Row], phases: Seconds | None = None, waits: Seconds | None = None) -> str:
    """Draw a ledger. Colours come from the page: classes wire-data, wire-params, wire-grad, wire-step, wire-signal.

    Args:
      rows: ledger rows; those of systems inside systems that agree in roles, message and route are added up.
      phases, waits: seconds by role; a role that has some gets a bar of its busy share.

    Check: wires that carried nothing are dashed, all others are not.
    """
    drawing = place(_added_up(rows))
    if not drawing.boxes:
        return '<p class="quiet">No message crossed between roles.</p>'
    heaviest = max((wire.row["bytes"] for wire in drawing.wires), default=0)
    parts = [_wire(wire, heaviest) for wire in drawing.wires]
    parts += [_box(role, rect, phases or {}, waits or {}) for role, rect in drawing.boxes.items()]
    parts += [_label(wire) for wire in drawing.wires]
    return _svg(drawing, parts)


def kind_of(message: str) -> str:
    """Class of a message: data, params, grad, step or signal."""
    return _KINDS.get(message, "signal")


def _added_up(rows: list[Row]) -> list[Row]:
    total: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in ("source", "target", "message", "via"))
        if key not in total:
            total[key] = dict(row)
            continue
        old = total[key]
        lagged = [r for r in (old, row) if r.get("lag_mean") is not None and r["count"]]
        weight = sum(r["count"] for r in lagged)
        old["lag_mean"] = sum(r["lag_mean"] * r["count"] for r in lagged) / weight if weight else None
        old["lag_max"] = max((r["lag_max"] for r in lagged), default=None)
        old["count"], old["bytes"] = old["count"] + row["count"], old["bytes"] + row["bytes"]
    return list(total.values())


def _svg(drawing: Layout, parts: list[str]) -> str:
    size = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}" width="{drawing.width:.0f}"'
    return f'<svg class="flow" role="img" aria-label="data flow" {size}>{"".join(parts)}</svg>'


def _wire(wire: Wire, heaviest: int) -> str:
    carried = wire.row["count"] > 0
    share = math.log1p(wire.row["bytes"]) / math.log1p(heaviest) if heaviest else 0.0
    thick = 1.4 + 2.2 * share**2 if carried else 1.4
    style = f'stroke-width="{thick:.1f}"' + ("" if carried else ' stroke-dasharray="5 5"')
    kind = f"wire-{kind_of(wire.row['message'])}" + ("" if carried else " wire-idle")
    size = 6 + thick
    *before, last = wire.points
    tip = _toward(last, before[-1], size - 1)
    via = escape(f"{wire.row['message']} {wire.row['source']} > {wire.row['target']} via {wire.row['via']}")
    line = f'<path class="{kind}" d="{_rounded([*before, tip])}" fill="none" {style}><title>{via}</title></path>'
    return line + f'<path class="{kind} head" d="{_arrow_head(before[-1], last, size)}"/>'


def _label(wire: Wire) -> str:
    x, y = wire.anchor
    kind = kind_of(wire.row["message"])
    return (
        f'<text class="text-{kind}" x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{escape(wire.title)}</text>'
        f'<text class="detail" x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{escape(wire.detail)}</text>'
    )


def _box(role: str, rect: Rect, phases: Seconds, waits: Seconds) -> str:
    x, y = rect.middle
    shape = f'<rect class="role" x="{rect.x:.1f}" y="{rect.y:.1f}" width="{rect.width:.1f}" height="{rect.height:.1f}"'
    busy, waiting = sum(phases.get(role, {}).values()), sum(waits.get(role, {}).values())
    name = escape(role.replace("_", " "))
    if busy + waiting <= 0:
        return f'{shape} rx="10"/><text class="name" x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle">{name}</text>'
    share, width = busy / (busy + waiting), rect.width - 36
    left = rect.x + 18
    return (
        f'{shape} rx="10"/><text class="name" x="{x:.1f}" y="{y - 12:.1f}" text-anchor="middle">{name}</text>'
        f'<rect class="idle" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="7" rx="3.5"/>'
        f'<rect class="busy" x="{left:.1f}" y="{y:.1f}" width="{width * share:.1f}" height="7" rx="3.5"/>'
        f'<text class="detail" x="{x:.1f}" y="{y + 25:.1f}" text-anchor="middle">{readable.percent(share)} busy</text>'
    )


def _toward(point: Point, other: Point, distance: float) -> Point:
    dx, dy = other[0] - point[0], other[1] - point[1]
    length = math.hypot(dx, dy) or 1.0
    return point[0] + dx / length * distance, point[1] + dy / length * distance


def _rounded(points: list[Point]) -> str:
    """A path through the points with round corners."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        # a short leg gets a tighter corner
        radius = min(CORNER, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        start, end = _toward(corner, before, radius), _toward(corner, after, radius)
        path += f"L{start[0]:.1f} {start[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    return path + f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"


def _arrow_head(before: Point, tip: Point, size: float) -> str:
    base = _toward(tip, before, size)
    dx, dy = (tip[0] - base[0]) / 2, (tip[1] - base[1]) / 2
    corners = [tip, (base[0] - dy, base[1] + dx), (base[0] + dy, base[1] - dx)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"
