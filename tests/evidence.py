# SPDX-License-Identifier: Apache-2.0
"""`pytest --evidence FILE`: which tests prove an architecture, and how they went. docs/systems.md is derived from it.

A test that proves something says what with `@pytest.mark.evidence("fingerprint")` or `("learning")`, and about which
architecture with a parameter named `architecture` or a second argument: `evidence("learning", "a2c")`. A setting that
has its own row in the table goes after a slash: `evidence("fingerprint", "a2c/optimisation=async")`.

The file is updated, not replaced: of what this session ran only in part without a failure, or not at all, the older
entry stays.
"""

import datetime
import json
import platform
import subprocess
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

KINDS = ("fingerprint", "learning")
LIBRARIES = ("jax", "numpy", "gymnasium", "ale-py")


def claims(item: pytest.Item) -> list[tuple[str, str]]:
    """(architecture, kind) for each mark of a test.

    Raises:
      pytest.UsageError: the mark names no known kind, or nothing says which architecture.
    """
    found = []
    for mark in item.iter_markers("evidence"):
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        kind, subject = (*mark.args, parameters.get("architecture"), None)[:2]
        if kind not in KINDS or not isinstance(subject, str):
            raise pytest.UsageError(f"{item.nodeid}: write evidence(kind, architecture), kind one of {KINDS}")
        found.append((subject, kind))
    return found


class Recorder:
    """Counts how the tests that carry the mark went."""

    def __init__(self) -> None:
        self.claimed: dict[str, list[tuple[str, str]]] = {}
        self.left_out: set[tuple[str, str]] = set()
        self.outcome: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.claimed = {item.nodeid: found for item in items if (found := claims(item))}

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.left_out.update(claims(item))
            self.claimed.pop(item.nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or hasattr(report, "wasxfail"):  # an expected failure proves nothing
            self.outcome[report.nodeid] = "failed"
        elif report.when == "call" or report.skipped:
            self.outcome.setdefault(report.nodeid, report.outcome)

    def entries(self) -> dict[tuple[str, str], dict[str, int]]:
        """Counts by (architecture, kind) of what ran completely, or failed already. Skipped tests count as neither."""
        counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: {"passed": 0, "failed": 0})
        incomplete = set(self.left_out)
        for nodeid, subjects in self.claimed.items():
            outcome = self.outcome.get(nodeid)
            incomplete.update(subjects if outcome is None else ())
            for subject in subjects:
                if outcome in ("passed", "failed"):
                    counts[subject][outcome] += 1
        return {subject: n for subject, n in counts.items() if subject not in incomplete or n["failed"]}


def origin() -> dict[str, str | None]:
    """The commit, with a mark if the source differs from it, the date, and the versions that matter to results."""
    git = {"cwd": Path(__file__).parent.parent, "capture_output": True, "text": True}
    commit = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], **git)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], **git).returncode == 1
    versions = {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
    return {
        "commit": commit.stdout.strip() + " and changes" * changed if commit.returncode == 0 else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def write(path: Path, entries: dict[tuple[str, str], dict[str, int]]) -> None:
    """Put the entries into the file, each with where it comes from; leave what else it holds."""
    held = json.loads(path.read_text()) if path.is_file() else {}
    for (subject, kind), counts in entries.items():
        held.setdefault(subject, {})[kind] = counts | origin()
    path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evidence", metavar="FILE", type=Path, help="record what tests prove about architectures")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(), "evidence-recorder")


def pytest_testnodedown(node: Any) -> None:
    """In the session that tests were spread from: what one of its workers collected. Outcomes come as reports."""
    recorder = node.config.pluginmanager.get_plugin("evidence-recorder")
    claimed, left_out = getattr(node, "workeroutput", {}).get("evidence", ({}, []))
    recorder.claimed |= {nodeid: [(subject, kind) for subject, kind in found] for nodeid, found in claimed.items()}
    recorder.left_out |= {(subject, kind) for subject, kind in left_out}


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--evidence")
    recorder = session.config.pluginmanager.get_plugin("evidence-recorder")
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["evidence"] = (recorder.claimed, sorted(recorder.left_out))
    elif path is not None and (entries := recorder.entries()):
        write(path, entries)
