# SPDX-License-Identifier: Apache-2.0
"""Settings of the process that trains, made once before JAX allocates: never at import."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


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
