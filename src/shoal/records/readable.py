# SPDX-License-Identifier: Apache-2.0
"""Numbers as people read them, the same in the terminal, the race table and the report."""

import itertools
import math
from collections.abc import Iterable, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def count(value: float | None) -> str:
    """1234 -> "1,234", 15_230 -> "15.2k", 4_100_000 -> "4.10M"; None -> "-"."""
    if value is None or not math.isfinite(value):
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if letter == "k" else 1):
            return _three_digits(value / size) + letter
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def number(value: float | None) -> str:
    """A measured number with about three digits that matter; None -> "-"."""
    if value is None or not math.isfinite(value):
        return "-"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def nbytes(value: float | None) -> str:
    """1234 -> "1.23 kB", decimal units; None -> "-"."""
    if value is None or not math.isfinite(value):
        return "-"
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """9.31 -> "9.3 s", 125 -> "2:05", 7384 -> "2:03:04"; None -> "-"."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 59.95:
        return f"{seconds:.2g} s" if seconds < 0.95 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def percent(fraction: float | None) -> str:
    """0.123 -> "12%", 0.004 -> "<1%"; None -> "-"."""
    if fraction is None or not math.isfinite(fraction):
        return "-"
    return "<1%" if 0 < fraction < 0.005 else f"{100 * fraction:.0f}%"


def plus_minus(fraction: float | None) -> str:
    """A noise behind a figure: 0.021 -> " ±2%", 0.004 -> " ±<1%"; nothing for None, which nobody knows."""
    return "" if fraction is None else f" ±{percent(fraction)}"


def tick(value: float) -> str:
    """A round number on an axis: 0.25, 400, 20k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{letter}"
    return f"{value:.6g}"


def tick_s(seconds: float) -> str:
    """Round seconds on an axis: 20 s, 5:00, 1:30:00."""
    return f"{seconds:.6g} s" if seconds < 100 else duration(seconds)


def sparkline(values: Iterable[float], width: int) -> str:
    """The course of the values in `width` characters at most, lowest to highest.

    Check: a rising line ends in a full block and starts with the lowest one.
    """
    points = [value for value in values if value is not None and math.isfinite(value)]
    if not points or width < 1:
        return ""
    shown = _thinned(points, width)
    low, high = min(shown), max(shown)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in shown)


def _thinned(points: Sequence[float], width: int) -> list[float]:
    """Means over equal stretches, so that no part of the course is left out."""
    if len(points) <= width:
        return list(points)
    edges = [len(points) * i // width for i in range(width + 1)]
    return [sum(points[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"
