# SPDX-License-Identifier: Apache-2.0
"""How many places share the learners of a run evenly. Needs no JAX, so that predictions can ask, too."""


def most_even(learners: int, room: int) -> int:
    """The most devices, up to `room`, that share the learners evenly.

    Check: it divides learners.
    """
    return max(count for count in range(1, max(1, min(learners, room)) + 1) if learners % count == 0)
