# SPDX-License-Identifier: Apache-2.0
"""Generated pages say what the code says, and every command the handbook names exists."""

import re
import subprocess
import sys

from repository.sources import ROOT
from shoal.cli.main import COMMANDS

PAGES = [ROOT / name for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md") if (ROOT / name).is_file()]


def test_generated_pages_are_up_to_date():
    answer = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_commands_and_targets_in_the_pages_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        # in a block indented by four blanks, or quoted
        assert set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets, page.name
        assert set(re.findall(r"(?:^ {4}|`)shoal ([a-z]+)\b", text, re.MULTILINE)) <= set(COMMANDS), page.name
