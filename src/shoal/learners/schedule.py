# SPDX-License-Identifier: Apache-2.0
"""Settings that change with the number of environment steps, so that they hold when the batch size varies, and
learning rates that grow with it."""

from collections.abc import Callable
from typing import Literal

Schedule = Callable[[int], float]
"""env_steps -> value"""


def make_schedule(start: float, env_steps: int, *, anneal: bool) -> Schedule:
    """Constant, or falling on a line from `start` to 0 over `env_steps`.

    Check: half way the annealed value is half of `start`, and it never falls below 0.
    """
    if not anneal:
        return lambda _: start
    return lambda steps: start * max(0.0, 1.0 - steps / env_steps)


def scaled_rate(rate: float, growth: float, rule: Literal["constant", "sqrt", "linear"]) -> float:
    """The learning rate for a batch `growth` times as large as the one that `rate` is meant for.

    Linear keeps the distance that plain SGD travels per sample (Goyal et al. 2017, arXiv 1706.02677, section 2.1); the
    root keeps the size of its noise (Krizhevsky 2014, arXiv 1404.5997, section 5), and suits Adam and RMSProp, whose
    steps hardly grow with the batch.

    Check: growing twice by g is growing once by g * g.
    """
    return rate * growth ** {"constant": 0.0, "sqrt": 0.5, "linear": 1.0}[rule]
