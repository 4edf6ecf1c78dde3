# SPDX-License-Identifier: Apache-2.0
"""How stale data may be, and how often learnt from: staleness and reuse are what parallel learning is paid with."""

from dataclasses import dataclass

from shoal.errors import ConfigError

SOME = 1e-9
"""slack of comparisons"""


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What data may be learnt from; None: any."""

    max_lag: float | None = None
    """updates since the params that made them, in the mean"""
    max_reuse: float | None = None
    """times that each row is learnt from"""

    def __post_init__(self):
        if self.max_lag is not None and self.max_lag < 0:
            raise ConfigError(f"--max-lag {self.max_lag:g} must be 0 or more")
        if self.max_reuse is not None and not self.max_reuse > 0:
            raise ConfigError(f"--max-reuse {self.max_reuse:g} must be above 0")

    def admit(self, lag: float | None, reuse: float) -> bool:
        """Whether data so stale and so often used are within."""
        stale = self.max_lag is not None and (lag or 0.0) > self.max_lag + SOME
        worn = self.max_reuse is not None and reuse > self.max_reuse + SOME
        return not (stale or worn)

    @property
    def words(self) -> str:
        """For people."""
        said = {"lag up to": self.max_lag, "reuse up to": self.max_reuse}
        return ", ".join(f"{name} {value:g}" for name, value in said.items() if value is not None)


ANY = Allowed()
