# SPDX-License-Identifier: Apache-2.0
"""`shoal report RUN_DIR...`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from shoal.cli.parsing import open_run, parse_command
from shoal.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one self-contained page: curves, what crossed between roles, and who waited."""

    run_dirs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN_DIR...")]
    """one or more run folders"""
    out: Path | None = None
    """file to write; default: report.html in the first folder"""


def run(argv: Sequence[str]) -> int:
    """Write the page and say where it is."""
    form = parse_command(Report, argv, "shoal report")
    if not form.run_dirs:
        raise ConfigError("missing RUN_DIR; name one or more run folders")
    for folder in form.run_dirs:
        open_run(folder)

    from shoal.reports.report import write_report

    print(f"report: {write_report(list(form.run_dirs), out=form.out)}")
    return 0
