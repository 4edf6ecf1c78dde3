# SPDX-License-Identifier: Apache-2.0
"""The engines under test by name, and what a ledger says crossed."""

import contextlib
import threading
import time
from collections.abc import Callable

import psutil

from clusters import LocalCluster, two_nodes
from shoal.engines import Engine, make_engine

KINDS = {
    "inline": ("inline", "free"),
    "threads": ("threads", "free"),
    "threads-fixed": ("threads", "fixed"),
    "simulated": ("simulated", "free"),
}
"""every program runs on these"""
PROCESSES = {
    "processes": ("processes", "free"),
    "processes-fixed": ("processes", "fixed"),
    "cluster": ("ray", "free"),
    "cluster-fixed": ("ray", "fixed"),
}
"""programs whose workers are functions of a module also run on these"""
ALL = {**KINDS, **PROCESSES}
FREE = ("threads", "processes", "cluster")
FIXED = [kind for kind in KINDS if kind not in FREE]


def engine_of(kind: str, **settings) -> Engine:
    """A new engine."""
    name, order = ALL[kind]
    cluster = two_nodes() if name == "ray" else None
    return make_engine(name, order, cluster=cluster, **settings)


def fresh_engine(kind: str) -> Engine:
    """A new engine, on nodes on which nothing has run before, where it has any."""
    name, order = ALL[kind]
    return make_engine(name, order, cluster=LocalCluster(2) if name == "ray" else None)


def crossed(engine: Engine) -> set[str]:
    """Messages as "TRAJ actor>learner", those that really came."""
    return {f"{r['message']} {r['source']}>{r['target']}" for r in engine.rows() if r["count"]}


def row(engine: Engine, message: str, system: str | None = None) -> dict:
    """The one row of a message."""
    found = [r for r in engine.rows() if r["message"] == message and system in (None, r["system"])]
    assert len(found) == 1, found
    return found[0]


def all_end(pids, seconds=60.0):
    """Whether none of these processes is left after so long, but for whom their parent has not looked at yet."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return all(is_zombie(process) for process in psutil.wait_procs(found, timeout=seconds)[1])


def is_zombie(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def workers_left() -> list[str]:
    """Threads of an engine that still live."""
    return [t.name for t in threading.enumerate() if t.name.startswith("shoal")]


def stop_when(engine: Engine, reason: str, true: Callable[[], object]) -> None:
    """Stop an engine a little after something has become true."""
    until = time.monotonic() + 60
    while not true() and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.1)
    engine.stop(reason)
