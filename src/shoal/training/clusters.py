# SPDX-License-Identifier: Apache-2.0
"""The cluster that a run uses, where its engine has one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shoal.engines.cluster.options import ClusterOptions, require_ray
from shoal.errors import ConfigError


def check_cluster(given: dict[str, Any] | None, engine: str) -> dict[str, Any] | None:
    """The cluster's fields as they are kept; None on engines without one.

    Raises ConfigError for a cluster that no engine uses, or that cannot be, before anything starts.
    """
    options = ClusterOptions.given(given)
    if engine == "ray":
        require_ray()
        return options.fields
    for name, value in options.fields.items():
        if value != getattr(ClusterOptions(), name):
            raise ConfigError(f"{name}={value} is for --engine ray, and this run is on {engine}; leave it out")
    return None


class News:
    """Lines about a cluster, kept until there is a log to write them to."""

    def __init__(self):
        self._lines: list[str] = []
        self._log: Callable[[str], None] | None = None

    def __call__(self, line: str) -> None:
        """A line."""
        if self._log is None:
            self._lines.append(line)
        else:
            self._log(line)

    def to(self, log: Callable[[str], None]) -> None:
        """Write what has come, and what will."""
        for line in self._lines:
            log(line)
        self._log = log


@contextmanager
def opened_cluster(fields: dict[str, Any] | None) -> Iterator[tuple[Any, News]]:
    """(the cluster of a run's settings, joined or started, or None where it has none; what there is to say of it)."""
    news = News()
    if fields is None:
        yield None, news
        return
    from shoal.engines.cluster.ray_nodes import RayCluster

    with RayCluster(ClusterOptions.given(fields), news) as cluster:
        yield cluster, news
