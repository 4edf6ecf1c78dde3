# SPDX-License-Identifier: Apache-2.0
"""Settings of architectures whose learner takes trajectories of older params from a queue: IMPALA, APPO, SEED."""

from dataclasses import dataclass
from typing import Literal

from shoal.architectures.base import ActorCriticConfig, require
from shoal.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class QueuedConfig(ActorCriticConfig):
    """How long the queue is, how old what comes out of it may be, and how that is corrected."""

    num_actors: int = 2
    """collecting workers"""
    unroll_length: int = 20
    """steps per trajectory (T)"""
    batch_trajectories: int = 2
    """actor trajectories per update: B = batch_trajectories * envs_per_actor"""
    queue_slots: int = 2
    """trajectories waiting at most; more hides stalls and adds lag"""
    max_lag: int = 100
    """trajectories collected under params older than this many versions are dropped"""
    correction: Literal["vtrace", "none"] = "vtrace"
    """none fixes every ratio at 1: an ablation"""
    max_ratio: float = 1.0
    """rho-bar: limit on a step's own correction"""
    max_trace: float = 1.0
    """c-bar: limit on how far corrections travel back"""
    forced_lag: int = 0
    """who acts is held back this many versions, for studies of staleness"""

    @property
    def rows_per_step(self) -> int:
        """Rows [T * B] that one gradient step averages over."""
        return self.batch_trajectories * self.envs_per_actor * self.unroll_length

    def __post_init__(self):
        super().__post_init__()
        require(self, ("batch_trajectories", "queue_slots"), lambda x: x > 0, "must be above 0")
        require(self, ("max_ratio", "max_trace"), lambda x: x > 0, "must be above 0")
        require(self, ("forced_lag", "max_lag"), lambda x: x >= 0, "must be 0 or more")
        if self.max_lag < self.forced_lag:
            raise ConfigError(
                f"max_lag={self.max_lag} would drop all that forced_lag={self.forced_lag} delays; raise --max-lag"
            )
