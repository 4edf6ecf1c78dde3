# SPDX-License-Identifier: Apache-2.0
"""Hostile environments, each importable as `envs.hostile:Name`, and what must come of each.

Its `fault` is what the one line must say (a regular expression), and `error` the exception; where `fault` is empty,
training must go on unharmed. Those with `dies` end or hang the process that they run in, or leave another one behind:
they are for engines that give environments processes of their own.
"""

from envs.hostile import acts, returns, trees
from envs.hostile.acts import *  # noqa: F403
from envs.hostile.base import AT, EPISODE, Good
from envs.hostile.returns import *  # noqa: F403
from envs.hostile.trees import *  # noqa: F403

HOSTILE: list[type[Good]] = [
    found
    for module in (returns, trees, acts)
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Good) and found.__module__ == module.__name__
]
"""all of them, in the order of their files"""

__all__ = ["AT", "EPISODE", "HOSTILE", "Good", *(found.__name__ for found in HOSTILE)]
