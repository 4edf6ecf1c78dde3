# SPDX-License-Identifier: Apache-2.0
"""`shoal train auto`: measure the environment and the network here, choose architecture and layout, and say why. What
was measured is kept in the run's folder as profile.json, the reasons in its log.

    env, network --> profile --> advice --> architecture, engine, fields --> train

Imports JAX.
"""

import sys
from contextlib import nullcontext
from typing import Any, NamedTuple

from rich.console import Console

from shoal.placement.advise import SECONDS, advise
from shoal.placement.profile import Profile, write_profile
from shoal.placement.verdict import describe
from shoal.records.run_dir import RunDir

PROFILE = "profile.json"
"""in the run's folder"""


class Choice(NamedTuple):
    """What to train, and why."""

    architecture: str
    engine: str
    fields: dict[str, int]
    """that differ from the architecture's preset"""
    reasons: list[str]
    profile: Profile

    def keep(self, run: RunDir) -> None:
        """Write what was measured into a run's folder, and the reasons into its log."""
        write_profile(run.path / PROFILE, self.profile)
        for reason in self.reasons:
            run.log(f"auto: {reason}")


def choose(
    env: Any, network: str, env_kwargs: dict[str, Any] | None, *, quiet: bool, seconds: float = SECONDS
) -> Choice:
    """Measure and decide.

    Raises: ConfigError, EnvironmentFault as `advise` does.
    """
    console = Console(file=sys.stderr)
    status = console.status("measuring") if console.is_terminal and not quiet else None

    def tell(what: str) -> None:
        if status:
            status.update(f"measuring {what}")

    with status or nullcontext():
        advice, profile = advise(env, network=network, env_kwargs=env_kwargs, seconds=seconds, tell=tell)
    best = advice.best
    found = Choice(best.architecture, best.engine, dict(best.changed), advice.reasons, profile)
    if not quiet:
        said = [f"chosen: {best.architecture}, {describe(best)}", *(f"  {reason}" for reason in found.reasons)]
        Console(soft_wrap=True).print("\n".join(said), highlight=False, markup=False)
    return found
