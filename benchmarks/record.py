# SPDX-License-Identifier: Apache-2.0
"""How a benchmark is run and kept: one JSON file with every repeat, the commit, the machine and the versions.

Full measurements go to benchmarks/results/ and are committed. Quick ones only show that a script works: they go to
build/benchmarks/, because their numbers mean nothing.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from shoal.records import hardware
from shoal.records.files import plain

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "build" / "benchmarks"
LIBRARIES = ("shoal", "jax", "jaxlib", "numpy", "equinox", "optax", "gymnasium", "ale-py", "greenlet")
RESAMPLES = 2_000
BUSY_LOAD = 0.5


def arguments(module: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--quick`; the benchmark adds its own settings."""
    summary = (doc or "").strip().splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=summary)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, measures nothing")
    return parser


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Median, range and a bootstrap 95% interval of the median; the values themselves stay beside them.

    Check: of equal values, all five numbers are that value.
    """
    numbers = [float(v) for v in values]
    draws = np.random.default_rng(0).choice(numbers, size=(RESAMPLES, len(numbers)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return {
        "median": statistics.median(numbers),
        "min": min(numbers),
        "max": max(numbers),
        "ci95": [float(low), float(high)],
        "n": len(numbers),
        "values": numbers,
    }


def write(name: str, module: str, *, quick: bool, began: dict[str, Any], **findings: Any) -> Path:
    """Keep a measurement as <name>.json; `began` is what `conditions()` gave before it started."""
    folder = QUICK_RESULTS if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    facts = {
        "benchmark": name,
        "command": f"python -m {module} {shlex.join(sys.argv[1:])}".strip(),
        "quick": quick,
        **began,
        "load_1min_after": os.getloadavg()[0],
        **findings,
    }
    path.write_text(json.dumps(plain(facts), indent=1) + "\n")
    print(f"\nwritten: {path.relative_to(ROOT)}")
    return path


def conditions() -> dict[str, Any]:
    """Date, commit, machine, versions, and how busy the machine is with other work before anything starts."""
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        print(f"note: load is {load:.1f} before anything started; figures will be noisy", file=sys.stderr)
    machine = hardware.describe()
    kept = ("cpu_model", "cores", "physical_cores", "usable_cores", "memory_bytes", "python")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py")),
        "load_1min_before": load,
        "hardware": {**{name: machine[name] for name in kept}, "system": platform.system()},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the libraries that matter, in this environment."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _git(*words: str) -> str | None:
    answer = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None
