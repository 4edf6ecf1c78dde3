# SPDX-License-Identifier: Apache-2.0
"""Settings that change with the number of environment steps, so that they hold when the batch size varies."""

from collections.abc import Callable

Schedule = Callable[[int], float]
"""env_steps -> value"""


def make_schedule(start: float, env_steps: int, *, anneal: bool) -> Schedule:
    """Constant, or falling on a line from `start` to 0 over `env_steps`.

    Check: half way the annealed value is half of `start`, and it never falls below 0.
    """
    if not anneal:
        return lambda _: start
    return lambda steps: start * max(0.0, 1.0 - steps / env_steps)
