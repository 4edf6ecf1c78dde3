# SPDX-License-Identifier: Apache-2.0
"""The files that the checks of this folder read."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "shoal").rglob("*.py"))
PYTHON = sorted(p for folder in ("src", "tests", "docs", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
TEXT_ENDINGS = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".sh", ".cfg", ""}


def module_name(path: Path) -> str:
    """The dotted name that a file under src/ is imported by."""
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def written_files() -> list[Path]:
    """Every text file that git tracks."""
    command = ["git", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if Path(name).suffix in TEXT_ENDINGS and (ROOT / name).is_file()]
