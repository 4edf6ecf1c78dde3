# SPDX-License-Identifier: Apache-2.0
"""Where a run may be cut: its quarters, at which runs in fixed order end a segment and replay memories are saved."""

SEGMENTS = 4


def segment_end(total: int, env_steps: int) -> int:
    """The next quarter of `total` env steps after `env_steps`, or the run's end.

    Check: from every mark on the next one is another, up to the end.
    """
    marks = (total * (i + 1) // SEGMENTS for i in range(SEGMENTS))
    return next((mark for mark in marks if mark > env_steps), total)
