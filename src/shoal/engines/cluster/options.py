# SPDX-License-Identifier: Apache-2.0
"""What can be said of the cluster that a run uses. Imports no Ray."""

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any

from shoal.engines.cluster.squeeze import WAYS, require_lz4
from shoal.errors import ConfigError


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster, and how its nodes are used.

    Raises ConfigError for what cannot be.
    """

    address: str | None = None
    """host:port of a Ray cluster's head, or auto for the one that this machine belongs to; none: a cluster of this
    machine alone, started for the run and reachable from nowhere else"""
    actor_cpus: float = 1.0
    """processors of a node that every worker reserves, learners and inference workers one at least"""
    node_ip: str | None = None
    """this machine's address as the other nodes reach it; none: the one that Ray knows it by"""
    compress: str = "auto"
    """LZ4 between nodes: always, never, or auto for links on which it pays, as measured"""

    def __post_init__(self):
        if not 0 < self.actor_cpus < float("inf"):
            raise ConfigError(f"actor_cpus={self.actor_cpus} must be above 0 and finite; change --actor-cpus")
        if self.compress not in WAYS:
            raise ConfigError(f"compress={self.compress!r} is unknown: use {', '.join(WAYS[:-1])} or {WAYS[-1]}")
        if self.compress == "always":
            require_lz4()
        if self.address not in (None, "auto"):
            host, _, port = self.address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 2**16:
                raise ConfigError(f"address={self.address!r} is no host:port; give that of the head, or auto")

    @classmethod
    def given(cls, found: dict[str, Any] | None) -> "ClusterOptions":
        """From the fields that were given, or kept in a run's config."""
        return cls(**(found or {}))

    @property
    def fields(self) -> dict[str, Any]:
        """As they are kept."""
        return asdict(self)


def require_ray() -> None:
    """Raises ConfigError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine ray needs the package ray: pip install 'shoal[ray]', or use --engine processes")
