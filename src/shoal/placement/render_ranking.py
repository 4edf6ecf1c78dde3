# SPDX-License-Identifier: Apache-2.0
"""A ranking as a person reads it. Plain text."""

from collections.abc import Sequence

from shoal.placement.allowed import ANY, Allowed
from shoal.placement.bounds import compiled_step_s
from shoal.placement.layouts import layout_words
from shoal.placement.prediction import Prediction
from shoal.placement.profile import Profile
from shoal.placement.ranking import learns_alike, run_line
from shoal.records.readable import count

MOST = 12
"""rows"""


def render(profile: Profile, found: Sequence[Prediction], allowed: Allowed = ANY, most: int = MOST) -> str:
    """The fastest layouts, a line each, and what each of them is limited by."""
    within = f", within {allowed.words}" if allowed.words else ""
    lines = ["", f"All that was measured, predicted on this machine{within}"]
    if not found:
        return "\n".join([*lines, "  none; allow more with --max-lag or --max-reuse"])
    said = [words_of(profile, one) for one in found[:most]]
    wide = max(len(words) for words in said) + 1
    lines.append(f"  {'':<9}{'layout':<{wide}}{'steps/s':>9}{'lag':>6}{'reuse':>7}  limit")
    for one, words in zip(found, said, strict=False):
        figures = f"{count(one.env_steps_per_s):>9}{one.lag_mean:>6.1f}{one.reuse:>7.3g}"
        limit = one.limit.partition(" (")[0]
        lines.append(f"  {one.architecture:<9}{words:<{wide}}{figures}  {limit}")
    if len(found) > most:
        lines.append(f"  the first {most} of {len(found)}; each of them: shoal predict ARCH --profile FILE")
    line = run_line(profile, found)
    return "\n".join([*lines, f"  run (predicted, not run yet): {line}"] if line else lines)


def words_of(profile: Profile, one: Prediction) -> str:
    """A layout, and whether its data are other ones."""
    words = layout_words(one.layout | one.settings, one.engine)
    words += ", on-device" if compiled_step_s(profile) is not None else ""
    return words if learns_alike(profile, one) else f"{words} (learns otherwise)"
