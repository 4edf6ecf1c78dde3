# SPDX-License-Identifier: Apache-2.0
"""Two profiles beside one another as a person reads them. Plain text, so that a log and a terminal show the same."""

from shoal.placement.compare import Comparison, Row
from shoal.placement.verdict import WORTH_A_WARNING
from shoal.records.readable import count, percent, plus_minus

WIDEST = 52
"""characters of a part's name before its figures"""


def render(found: Comparison, a: str, b: str) -> str:
    """What differs beside the figures, then a row a part; `a` and `b` are how the profiles are called."""
    lines = [f"A  {a}", f"B  {b}", ""]
    lines += [f"  {what}: {mine} | {other}" for what, mine, other in found.differing]
    lines += [] if found.differing else ["  one machine, one version, one environment"]
    width = max([len("part"), *(min(WIDEST, len(row.part)) for row in found.rows)])
    lines += ["", f"  {'part':<{width}}{'A':>16}{'B':>16}{'B / A':>8}  within noise"]
    for row in found.rows:
        figures = f"{figure(row, row.a, row.noise_a):>16}{figure(row, row.b, row.noise_b):>16}{row.ratio:>8.2f}"
        lines.append(f"  {row.part:<{width}}{figures}  {verdict(row)}")
    outside = [row for row in found.rows if row.within is False]
    lines += ["", f"  {len(outside)} of {len(found.rows)} differ by more than the noise of both"]
    lines += [f"  only in {name}: {what}" for name, what in found.alone]
    if max(found.disturbed) > WORTH_A_WARNING:
        shares = " and ".join(percent(share) for share in found.disturbed)
        lines.append(f"  other programs used {shares} of the cores: what that does to caches is in no noise")
    return "\n".join(lines)


def figure(row: Row, value: float, noise: float | None) -> str:
    """Microseconds, or steps a second, with their noise."""
    words = f"{count(value)}/s" if row.unit == "steps/s" else f"{value * 1e6:,.{1 if value < 1e-4 else 0}f} us"
    return words + plus_minus(noise)


def verdict(row: Row) -> str:
    """Whether it differs by more than noise, and which is faster then."""
    if row.within is None:
        return "not known"
    if row.within:
        return "yes"
    faster = "B" if (row.ratio > 1) == (row.unit == "steps/s") else "A"
    return f"no: {faster} is faster"
