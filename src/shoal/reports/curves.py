# SPDX-License-Identifier: Apache-2.0
"""Line charts and time bars as inline SVG; the page's style sheet gives the colours."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

from shoal.records import readable

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 12, 40
MAX_POINTS = 600
NUM_COLOURS = 8
"""classes series-0 to series-7 of the page"""


@dataclass(frozen=True)
class Series:
    """One line. `colour` chooses the class series-<colour>."""

    name: str
    points: list[tuple[float, float]]
    """(x, y), x never falling"""
    colour: int = 0


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and how its ticks are written."""

    label: str
    text: Callable[[float], str] = readable.tick


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(series: list[Series], x: Axis, y: Axis, from_zero: bool = False, smooth: bool = False) -> str:
    """Draw the series over one pair of axes, the horizontal one from 0; the empty string where none has a point.

    Args:
      from_zero: begin the vertical axis at 0.
      smooth: draw the values faintly and their moving mean over them.

    Check: every point lies inside the frame.
    """
    drawn = [Series(s.name, thinned(s.points), s.colour) for s in series if s.points]
    if not drawn:
        return ""
    xs = [point[0] for s in drawn for point in s.points]
    ys = [point[1] for s in drawn for point in s.points]
    x_ticks = ticks(min(0.0, *xs), max(xs), 6)
    y_ticks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys), 5)
    across = _Scale(x_ticks[0], max(max(xs), x_ticks[0] + 1e-9), LEFT, WIDTH - RIGHT)
    up = _Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    x_ticks = [tick for tick in x_ticks if tick <= max(xs)]
    parts = [*_frame(x_ticks, y_ticks, across, up, x, y), *(_line(s, across, up, faint=smooth) for s in drawn)]
    if smooth:
        parts += [_line(Series(s.name, moving_mean(s.points), s.colour), across, up) for s in drawn]
    label = escape(f"{y.label} by {x.label}")
    return f'<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that take in [low, high].

    Check: the first is at most low, the last at least high, and all are whole multiples of one step.
    """
    span = high - low
    if span <= max(abs(low), abs(high)) * 1e-9:
        span = abs(high) or 1.0
        low, high = low - span / 2, high + span / 2
    rough = span / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about MAX_POINTS: of each stretch the lowest and the highest point stay, so no spike is lost.

    Check: the extremes of the values stay.
    """
    if len(points) <= MAX_POINTS:
        return points
    stretches = MAX_POINTS // 2
    kept = [points[0]]
    for number in range(stretches):
        stretch = points[len(points) * number // stretches : len(points) * (number + 1) // stretches]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends, key=lambda p: p[0])
    return [*kept, points[-1]]


def moving_mean(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean of each point and its neighbours, a twentieth of the course on either side, fewer at the ends.

    Check: a straight line stays as it is.
    """
    reach = len(points) // 20
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    smoothed = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        smoothed.append((x, (sums[i + near + 1] - sums[i - near]) / (2 * near + 1)))
    return smoothed


def time_bar(parts: Mapping[str, float], waits: Mapping[str, float], colours: Mapping[str, int]) -> str:
    """One role's time: a bar of its phases in colours and its waits hatched, longest first, and what they are.

    Args:
      parts, waits: seconds by name.
      colours: class of each phase, the same in all bars of a page.
    """
    work = sorted(parts.items(), key=lambda item: -item[1])
    idle = sorted(waits.items(), key=lambda item: -item[1])
    pieces = [(name, s, f"series-{colours.get(name, 0)}") for name, s in work]
    pieces += [(f"waiting: {name}", s, "waiting") for name, s in idle]
    total = sum(s for _, s, _ in pieces)
    if total <= 0:
        return ""
    bar, key = [], []
    for name, seconds, kind in pieces:
        share = seconds / total
        told = escape(f"{name}: {readable.duration(seconds)}, {readable.percent(share)}")
        bar.append(f'<span class="part {kind}" style="width:{100 * share:.2f}%" title="{told}"></span>')
        if share >= 0.005:
            swatch = f'<i class="swatch {kind}"></i>{escape(name)} <b>{readable.percent(share)}</b>'
            key.append(f"<li>{swatch} <small>{readable.duration(seconds)}</small></li>")
    return f'<div class="bar">{"".join(bar)}</div><ul class="key">{"".join(key)}</ul>'


def _frame(x_ticks: list[float], y_ticks: list[float], across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in y_ticks:
        at = up(tick)
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y.text(tick)}</text>')
    for tick in x_ticks:
        at = across(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {HEIGHT - BOTTOM}v4"/>')
        text = escape(x.text(tick))
        parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x.label)}</text>')
    return parts


def _line(series: Series, across: _Scale, up: _Scale, faint: bool = False) -> str:
    kind = f"line series-{series.colour % NUM_COLOURS}" + (" faint" if faint else "")
    title = f"<title>{escape(series.name)}</title>"
    at = [(across(x), up(y)) for x, y in series.points]
    if len(at) == 1:
        return f'<circle class="{kind} dot" cx="{at[0][0]:.1f}" cy="{at[0][1]:.1f}" r="3">{title}</circle>'
    return f'<path class="{kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in at)}">{title}</path>'
