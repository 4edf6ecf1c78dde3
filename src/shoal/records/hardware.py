# SPDX-License-Identifier: Apache-2.0
"""What this process may use of the machine: cores after affinity and cgroup limits, memory, processor, devices."""

import os
import platform
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def cgroup_cores(root: Path = CGROUP) -> float | None:
    """Cores the container may use, from its CPU quota over its period; None where there is no limit."""
    pair = (_text(root / "cpu.max") or "").split()
    if len(pair) != 2:
        pair = [_text(root / "cpu" / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    try:
        quota, period = float(pair[0]), float(pair[1])
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def cgroup_memory_bytes(root: Path = CGROUP) -> int | None:
    """Bytes the container may use; None where there is no limit."""
    text = _text(root / "memory.max") or _text(root / "memory" / "memory.limit_in_bytes")
    if not text or not text.isdigit():
        return None
    # version 1 writes "no limit" as a number near 2**63
    return int(text) if int(text) < 2**60 else None


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name, or the instruction set where it gives none."""
    for line in (_text(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def usable_cores() -> float:
    """The least of installed cores, affinity and cgroup limit."""
    limits = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):
        limits.append(float(len(os.sched_getaffinity(0))))
    quota = cgroup_cores()
    return min([*limits, quota] if quota else limits)


def describe(devices: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Facts for hardware.json. `devices` is what the learner's process saw, for example {"platform", "kind", "id"}."""
    import psutil

    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu_model": cpu_model(),
        "cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "affinity": affinity,
        "cgroup_cores": cgroup_cores(),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "cgroup_memory_bytes": cgroup_memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "devices": devices or [],
    }
