# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that trains, made once before JAX compiles anything: never at import."""

import ctypes
import os
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def prepare_process() -> None:
    """Keep freed memory and compiled updates; both only save time."""
    keep_freed_memory()
    keep_compiled_code()


def keep_freed_memory() -> bool:
    """Let the C allocator keep large freed blocks for the next update instead of returning them to the kernel.

    An update over frames allocates and frees hundreds of megabytes; mapping and clearing them anew each time costs as
    much as a third of it. The process then stays at its peak size. True where the allocator took the settings (glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def keep_compiled_code() -> Path | None:
    """Let JAX keep compiled updates in the user's cache folder, so that the next run starts at once.

    JAX_COMPILATION_CACHE_DIR, where it is set, stands. None where there is no folder to write to.
    """
    import jax

    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen:
        return Path(chosen)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoal" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return folder
