# SPDX-License-Identifier: Apache-2.0
"""flow.json: what crossed between roles, and who waited for whom, one segment per start of the run."""

import json
from pathlib import Path
from typing import Any

from shoal.errors import ConfigError
from shoal.records.files import replace_json

Seconds = dict[str, dict[str, float]]
"""{role: {phase or wire: seconds summed over the role's workers}}"""

_KEY = ("system", "source", "target", "message", "via")


class FlowRecord:
    """Writes flow.json. A resumed run keeps the segments of its earlier starts and adds its own."""

    def __init__(self, path: Path, architecture: str, from_env_steps: int = 0) -> None:
        self.path = path
        earlier = read_flow(path)["segments"] if path.exists() else []
        self._segment: dict[str, Any] = {"from_env_steps": from_env_steps}
        self._flow = {"architecture": architecture, "segments": [*earlier, self._segment]}

    def write(
        self,
        rows: list[dict[str, Any]],
        phases: Seconds,
        waits: Seconds,
        env_steps: int,
        pids: list[dict[str, Any]] | None = None,
    ) -> None:
        """Replace this start's segment with the engine's totals so far, in one step.

        Args:
          pids: workers that were processes: {"system", "role", "index", "epoch", "pid"}.
        """
        self._segment.update(to_env_steps=env_steps, rows=rows, phases=phases, waits=waits, pids=pids or [])
        replace_json(self.path, self._flow)


def read_flow(path: Path) -> dict[str, Any]:
    """The whole record: {"architecture", "segments": [{"from_env_steps", "rows", "phases", "waits", "pids"}]}.

    Raises:
      ConfigError: the file is missing or not a flow record.
    """
    try:
        flow = json.loads(path.read_bytes())
        if not all(isinstance(segment["rows"], list) for segment in flow["segments"]):
            raise ValueError("a segment has no rows")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as fault:
        raise ConfigError(f"{path} is not a flow record ({fault}); train or resume the run to write one") from None
    return flow


def merged_rows(flow: dict[str, Any]) -> list[dict[str, Any]]:
    """Ledger rows over all segments: counts and bytes added, lag_mean weighted by count, lag_max the largest.

    Check: one segment gives its own rows back.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for segment in flow["segments"]:
        for row in segment["rows"]:
            key = tuple(row.get(name) for name in _KEY)
            merged[key] = _joined(merged[key], row) if key in merged else dict(row)
    return list(merged.values())


def merged_seconds(flow: dict[str, Any], kind: str) -> Seconds:
    """`phases` or `waits` added over all segments."""
    total: Seconds = {}
    for segment in flow["segments"]:
        for role, parts in segment.get(kind, {}).items():
            sums = total.setdefault(role, {})
            for name, seconds in parts.items():
                sums[name] = sums.get(name, 0.0) + seconds
    return total


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    lagged = [row for row in (a, b) if row.get("lag_mean") is not None and row["count"]]
    weight = sum(row["count"] for row in lagged)
    maxima = [row["lag_max"] for row in (a, b) if row.get("lag_max") is not None]
    return {
        **a,
        "count": a["count"] + b["count"],
        "bytes": a["bytes"] + b["bytes"],
        "lag_mean": sum(row["lag_mean"] * row["count"] for row in lagged) / weight if weight else None,
        "lag_max": max(maxima) if maxima else None,
    }
