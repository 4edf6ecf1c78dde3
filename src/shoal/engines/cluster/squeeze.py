# SPDX-License-Identifier: Apache-2.0
"""LZ4 for items on their way between nodes, where the link is slow enough to make it pay.

Packing takes a core about a second for half a gigabyte. So it pays where less than `SLOW` bytes a second arrive without
it, and only if items become smaller by it: stacked frames do, by three to ten times, observations of floats hardly.
"""

from typing import Any

import numpy as np

from shoal.errors import ConfigError

SLOW = 200e6
"""bytes a second below which packing pays"""
SMALL = 16 * 1024
"""bytes up to which items cross as they are: their time is the link's delay"""
POOR = 0.8
"""share of their size above which packed items are not worth it"""
LOOKS = 4
"""items in a row that are measured plain before it is decided"""
RETHINK = 200
"""items after which it is decided anew"""
WAYS = ("auto", "always", "never")


class Squeeze:
    """Measures what comes from a node and says whether to ask for packed items.

    Args:
      way: auto, or always or never whatever is measured.
    """

    def __init__(self, way: str = "auto"):
        if way not in WAYS:
            raise ConfigError(f"compress={way!r} is unknown: use auto, always or never")
        if way == "always":
            require_lz4()
        self._way = way
        self._plain: list[float] = []
        self._count = 0
        self.rate: float | None = None
        """bytes a second of plain items, the median of the last ones looked at"""
        self.ratio = 0.0
        """packed bytes to plain ones of what was to be packed last; 1 where that made it hardly smaller"""

    @property
    def wanted(self) -> bool:
        """Whether to ask for packed items now."""
        if self._way != "auto":
            return self._way == "always"
        return self.rate is not None and self.rate < SLOW and self.ratio < POOR and has_lz4()

    def saw(self, size: int, came: int, seconds: float, *, asked: bool) -> None:
        """An item of `size` bytes has come as `came` bytes in that time.

        Args:
          asked: packed if possible.
        """
        if size <= SMALL:
            return
        self._count += 1
        if self._count % RETHINK == 0:
            self._plain, self.rate, self.ratio = [], None, 0.0
        if came < size:
            self.ratio = came / size
            return
        if asked:
            self.ratio = 1.0  # it was tried, in vain
        if seconds > 0:
            self._plain = [*self._plain, came / seconds][-LOOKS:]
            if len(self._plain) == LOOKS:
                self.rate = float(np.median(self._plain))


def squeezed(data: memoryview) -> bytes | None:
    """The data packed; None where that does not make it smaller, or the library is not there."""
    if len(data) <= SMALL or not has_lz4():
        return None
    import lz4.frame

    packed = lz4.frame.compress(data)
    return packed if len(packed) < POOR * len(data) else None


def unsqueezed(packed: Any, memory: np.ndarray) -> None:
    """Unpack into memory [bytes]."""
    import lz4.frame

    plain = lz4.frame.decompress(packed)
    memory[:] = np.frombuffer(plain, np.uint8)


def has_lz4() -> bool:
    """Whether the library is there."""
    import importlib.util

    return importlib.util.find_spec("lz4") is not None


def require_lz4() -> None:
    """Raises ConfigError where the library is not there."""
    if not has_lz4():
        raise ConfigError("compress=always needs the package lz4: pip install 'shoal[ray]', or use compress=auto")
