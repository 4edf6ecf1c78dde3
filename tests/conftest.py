# SPDX-License-Identifier: Apache-2.0
"""One compilation cache for all tests, a time budget for each folder of tests, and the option --evidence."""

import os
import statistics
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")  # how long an example takes says how busy the machine is

pytest_plugins = ("evidence",)

ROOT = Path(__file__).resolve().parent.parent
FAIL_BEYOND = 3  # times the budget, and times how slow the machine is: a test ten times too long does not pass
STALLS_S = 120  # below which no folder is too long: others may have the cores for a while
SLOWEST = 5  # times as slow as the machine of the budgets that any other is taken to be, at most
ENOUGH = 5  # folders that tell how slow it is

# set before any test imports JAX; subprocesses inherit them
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402 it reads them

jax.config.update("jax_num_cpu_devices", 5)  # four for learners and one for acting, in this process only

BUDGETS_S = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["shoal"]["test_budgets_s"]
spent_s: dict[str, float] = defaultdict(float)
slow_s: dict[str, float] = defaultdict(float)


@pytest.fixture(scope="module")
def fresh_server():
    """A fork server that has imported nothing for the tests of other files that ran in this process."""
    from shoal.processes import launch

    for launcher in launch._shared:
        launcher.close()
    launch._shared.clear()


@pytest.fixture(scope="module", autouse=True)
def no_nodes_left():
    """Nodes that the tests of a file have shared end with that file."""
    yield
    if "clusters" in sys.modules:
        sys.modules["clusters"].end_shared()


def folder_of(nodeid: str) -> str:
    """The folder of tests/ that a test belongs to; the empty string for a file directly in tests/."""
    parts = nodeid.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else ""


def over_budget() -> list[str]:
    """Folders that took too long, beside what most folders took of their budgets: a slow machine slows all of them."""
    shares = {f: seconds / BUDGETS_S[f] for f, seconds in spent_s.items() if f in BUDGETS_S}
    return [folder for folder in too_long(shares) if spent_s[folder] > STALLS_S]


def too_long(shares: dict[str, float]) -> list[str]:
    """Of folders by their shares of budgets, those far beyond."""
    usual = statistics.median(shares.values()) if len(shares) >= ENOUGH else 1.0
    slow = min(float(SLOWEST), max(1.0, usual))
    return [folder for folder, share in shares.items() if share > FAIL_BEYOND * slow]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    kind = slow_s if "slow" in report.keywords else spent_s
    kind[folder_of(report.nodeid)] += report.duration


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and over_budget():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter) -> None:
    terminalreporter.section("seconds by folder")
    for folder in sorted(spent_s | slow_s):
        slow = f" and {slow_s[folder]:.1f} in slow tests" if folder in slow_s else ""
        line = f"{folder or '.':<14}{spent_s[folder]:7.1f} of {BUDGETS_S.get(folder, 0)}{slow}"
        terminalreporter.write_line(line + ("  OVER BUDGET" if folder in over_budget() else ""))
