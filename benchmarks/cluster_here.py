# SPDX-License-Identifier: Apache-2.0
"""A Ray cluster of two raylets on this machine, for benchmarks: the one that tests use."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT

HEAD, NODE = "127.0.0.2", "127.0.0.3"


@contextmanager
def two_raylets(cpus: int, python: Path = Path(sys.executable)) -> Iterator[Any]:
    """The cluster: a head without room for workers, and a node with room for so many; this process may join it.

    Args:
      python: whose Ray it is, and whose packages its workers have.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from cluster.raylets import Raylets

    with tempfile.TemporaryDirectory(prefix="r") as folder:
        raylets = Raylets(Path(folder), hosts=(HEAD, NODE), cpus=cpus, head_cpus=0, bins=python.parent)
        before = dict(os.environ)
        os.environ.update({name: raylets.env[name] for name in raylets.env if name.startswith("RAY_")})
        try:
            yield raylets
        finally:
            os.environ.clear()
            os.environ.update(before)
            raylets.close()
