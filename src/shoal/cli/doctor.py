# SPDX-License-Identifier: Apache-2.0
"""`shoal doctor`: what this machine has, and whether shoal can use it. Each line is a verdict: ok, warn or fail."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

from shoal.errors import ConfigError

CORE = (
    "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "ale-py", "safetensors", "rich", "tyro", "psutil",
    "greenlet",
)  # fmt: skip
EXTRAS = {
    "boards": ("pgx", "mctx"),
    "envpool": ("envpool",),
    "gymnax": ("gymnax",),
    "mujoco": ("mujoco",),
    "pettingzoo": ("pettingzoo",),
    "plots": ("matplotlib",),
    "ray": ("ray",),
    "tensorboard": ("tensorboard",),
    "video": ("imageio",),
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS")
LITTLE_MEMORY_BYTES = 4 * 2**30
LITTLE_SHARED_BYTES = 256 * 2**20
GIB = 2**30
USAGE = """usage: shoal doctor

Check Python, libraries, cores, memory and devices. Exit code 0 if shoal can run here, 2 if something is missing.
"""


class Verdict(NamedTuple):
    """One line of the answer."""

    level: str
    """ok, warn or fail"""
    what: str
    found: str


def run(argv: Sequence[str]) -> int:
    """Print all verdicts and a last line that sums them up."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if argv:
        raise ConfigError(f"unexpected {argv[0]!r}; doctor takes nothing")
    levels = []
    for verdict in verdicts():
        levels.append(verdict.level)
        print(f"{verdict.level:<5} {verdict.what:<12} {verdict.found}", flush=True)
    fails, warnings = levels.count("fail"), levels.count("warn")
    state = "shoal cannot run here" if fails else "shoal can run here"
    print(f"\n{state}: {len(levels)} checks, {warnings} to look at, {fails} failed")
    return ConfigError.exit_code if fails else 0


def verdicts() -> Iterator[Verdict]:
    """Every check, in order; a missing library ends the list before what needs it."""
    yield python()
    libraries = library_versions()
    yield libraries
    if libraries.level == "fail":
        return
    yield cores()
    yield memory()
    yield shared_memory()
    yield threads()
    yield devices()
    yield engines()
    yield extras()


def python() -> Verdict:
    """The interpreter and the system."""
    supported = sys.version_info >= (3, 11) and sys.platform in ("linux", "darwin")
    found = f"{platform.python_version()} on {platform.platform()}"
    return (
        Verdict("ok", "python", found)
        if supported
        else Verdict("fail", "python", found + "; needs 3.11, Linux or macOS")
    )


def version(package: str) -> str | None:
    """The installed version, without importing the package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def library_versions() -> Verdict:
    """Versions of everything the core needs."""
    versions = {name: version(name) for name in CORE}
    missing = [name for name, found in versions.items() if found is None]
    if missing:
        return Verdict("fail", "libraries", f"missing {', '.join(missing)}; install shoal again")
    return Verdict("ok", "libraries", ", ".join(f"{name} {found}" for name, found in versions.items()))


def cores() -> Verdict:
    """Cores after affinity and container limits."""
    from shoal.records import hardware

    usable, installed = hardware.usable_cores(), os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else installed
    quota = hardware.cgroup_cores()
    limit = "no container limit" if quota is None else f"container limit {quota:g}"
    found = f"{usable:g} usable of {installed} (affinity {affinity}, {limit}), {hardware.cpu_model()}"
    return (
        Verdict("ok", "cores", found)
        if usable >= 2
        else Verdict("warn", "cores", found + "; actors and learner share one")
    )


def memory() -> Verdict:
    """Memory that is free for this process, within a container limit if there is one."""
    import psutil

    from shoal.records.hardware import cgroup_memory_bytes

    state, limit = psutil.virtual_memory(), cgroup_memory_bytes()
    free = min(state.available, limit or state.available)
    found = f"{free / GIB:.1f} GiB free of {(limit or state.total) / GIB:.1f}"
    return Verdict("ok" if free >= LITTLE_MEMORY_BYTES else "warn", "memory", found)


def shared_memory(folder: Path = Path("/dev/shm")) -> Verdict:
    """Room for memory shared between processes."""
    if not folder.is_dir():
        return Verdict("ok", "shared", "no /dev/shm on this system; the engines here do not need it")
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.2f} GiB free in {folder}"
    little = free < LITTLE_SHARED_BYTES
    return (
        Verdict("warn", "shared", found + "; containers take --shm-size=1g")
        if little
        else Verdict("ok", "shared", found)
    )


def threads() -> Verdict:
    """Variables that change how many threads the libraries start."""
    given = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    return Verdict(
        "ok", "threads", ", ".join(f"{n}={v}" for n, v in given.items()) or "no variable set: libraries decide"
    )


def devices() -> Verdict:
    """What JAX can compute on, and a sum on it."""
    try:
        import jax

        found = [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
        works = float(jax.numpy.arange(4.0).sum()) == 6.0
    except Exception as fault:  # noqa: BLE001  a broken driver raises whatever it likes
        return Verdict("fail", "devices", f"JAX cannot start: {' '.join(str(fault).split())[:200]}")
    if not works:
        return Verdict("fail", "devices", f"{', '.join(found)}: a sum came out wrong")
    accelerated = any(d.platform != "cpu" for d in jax.devices())
    return Verdict(
        "ok", "devices", ", ".join(found) + ("" if accelerated else " (no GPU seen; install shoal[cuda] for one)")
    )


def engines() -> Verdict:
    """Each engine of one machine runs a function."""
    from shoal.cli.list import ENGINES
    from shoal.engines import make_engine

    here = [name for name in ENGINES if name != "ray"]
    broken = [name for name in here if make_engine(name).run(lambda: 1) != 1]
    if broken:
        return Verdict("fail", "engines", f"{', '.join(broken)} returned nothing")
    ray = "ray (not tried: it starts a cluster)" if util.find_spec("ray") else "not ray (extra)"
    return Verdict("ok", "engines", f"{', '.join(here)}, {ray}")


def extras() -> Verdict:
    """Optional parts, found without importing them."""
    present = [n for n, packages in EXTRAS.items() if all(util.find_spec(p) is not None for p in packages)]
    absent = [name for name in EXTRAS if name not in present]
    return Verdict("ok", "extras", f"{', '.join(present) or 'none'} (not installed: {', '.join(absent) or 'none'})")
