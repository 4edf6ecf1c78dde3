# SPDX-License-Identifier: Apache-2.0
"""What this process may have of memory, open files and processes, asked before it is needed."""

import os
import resource
from pathlib import Path

import psutil

from shoal.errors import ConfigError, MemoryShort

SPARE_BYTES = 64 * 2**20
"""that stay free when memory is asked for"""
SPARE_FILES = 64
"""descriptors for everything that is no worker's"""
FILES_PER_WORKER = 8
"""descriptors that a launcher holds for a child: link, lifeline, process, page, segments"""
SPARE_PROCESSES = 16
"""threads and processes for everything that is no worker's"""
CGROUP_PIDS = ("/sys/fs/cgroup", "/sys/fs/cgroup/pids")
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
CGROUP_USES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def free_memory() -> int:
    """Bytes that may still be taken, by this machine and by the control group that it is limited to."""
    room = psutil.virtual_memory().available
    for limit, use in zip(CGROUP_LIMITS, CGROUP_USES, strict=True):
        try:
            room = min(room, int(Path(limit).read_text()) - int(Path(use).read_text()))
        except (OSError, ValueError):  # no such group, or no limit
            continue
    return max(0, room - SPARE_BYTES)


def require_memory(size: int, purpose: str) -> None:
    """Raises MemoryShort in one line unless so many bytes are free."""
    room = free_memory()
    if size > room:
        raise MemoryShort(
            f"shared memory for {purpose} needs {size:,} bytes, {room:,} are free; lower the number of actors, "
            "environments per actor, unroll_length or queue slots"
        )


def require_files(workers: int) -> None:
    """Raise this process's limit on open files for so many children, as far as it may.

    Raises ConfigError in one line where that is not far enough.
    """
    wanted = SPARE_FILES + FILES_PER_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= soft or soft == resource.RLIM_INFINITY:
        return
    if hard not in (resource.RLIM_INFINITY, -1) and wanted > hard:
        raise ConfigError(
            f"{workers} worker processes need {wanted} open files, {hard} are allowed; lower num_actors or "
            "env_workers, or raise `ulimit -Hn`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_processes(workers: int) -> None:
    """Raises ConfigError in one line where so many children are more than may still be started."""
    room = free_processes()
    if workers > room:
        raise ConfigError(
            f"{workers} worker processes are more than the {room} that may still be started; lower num_actors or "
            "env_workers, or raise `ulimit -u`"
        )


def free_processes() -> int:
    """Processes that may still be started, by this machine, this user and the control group."""
    kernel = Path("/proc/sys/kernel/threads-max").read_text()
    running = Path("/proc/loadavg").read_text().split()[3].partition("/")[2]
    room = int(kernel) - int(running)
    for folder in CGROUP_PIDS:
        try:
            room = min(room, int(Path(folder, "pids.max").read_text()) - int(Path(folder, "pids.current").read_text()))
        except (OSError, ValueError):  # no such group, or no limit
            continue
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit != resource.RLIM_INFINITY and os.geteuid() != 0:  # which does not hold for root
        room = min(room, limit - _threads_of_mine())
    return max(0, room - SPARE_PROCESSES)


def _threads_of_mine() -> int:
    """Threads of all processes of this user: each counts."""
    user = os.getuid()
    found = psutil.process_iter(["uids", "num_threads"])
    return sum(p.info["num_threads"] or 0 for p in found if p.info["uids"] and p.info["uids"].real == user)


def out_of_files(error: OSError) -> ConfigError:
    """The one line for a process that may open no more files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ConfigError(
        f"{error.strerror}: {limit} are allowed, too few for so many workers; lower num_actors or "
        "env_workers, or raise `ulimit -n`"
    )
