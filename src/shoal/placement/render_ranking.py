# SPDX-License-Identifier: Apache-2.0
"""A ranking as a person reads it. Plain text."""

from collections.abc import Sequence

from shoal.placement.allowed import ANY, Allowed
from shoal.placement.layouts import layout_words
from shoal.placement.prediction import Prediction
from shoal.records.readable import count

MOST = 12
"""rows"""


def render(found: Sequence[Prediction], allowed: Allowed = ANY, most: int = MOST) -> str:
    """The fastest layouts, a line each, and what each of them is limited by."""
    within = f", within {allowed.words}" if allowed.words else ""
    lines = ["", f"All that was measured, predicted on this machine{within}"]
    if not found:
        return "\n".join([*lines, "  none; allow more with --max-lag or --max-reuse"])
    lines.append(f"  {'':<9}{'layout':<44}{'steps/s':>9}{'lag':>6}{'reuse':>7}  limit")
    for one in found[:most]:
        words = layout_words(one.layout, one.engine)
        figures = f"{count(one.env_steps_per_s):>9}{one.lag_mean:>6.1f}{one.reuse:>7.3g}"
        limit = one.limit.partition(" (")[0]
        lines.append(f"  {one.architecture:<9}{words:<44}{figures}  {limit}")
    if len(found) > most:
        lines.append(f"  the first {most} of {len(found)}; each of them: shoal predict ARCH --profile FILE")
    return "\n".join(lines)
