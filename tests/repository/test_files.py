# SPDX-License-Identifier: Apache-2.0
"""Nothing in the repository names the machine it was written on; versions agree; every test folder has a budget."""

import re
import tomllib

import pytest

from repository.sources import ROOT, written_files

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
# written in pieces so that this file passes its own check
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:" + "root|home|Users|work)" + r"/\w")
REGISTRY = re.compile("pypi" + r"\.org|pythonhosted" + r"\.org|npmjs" + r"\.org|--(?:extra-)?index" + "-url|://[^/ ]*@")
SHOWS_A_BREACH = ("test_files.py",)


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY], ids=["paths", "registries"])
def test_no_file_names_a_machine_or_a_registry(pattern):
    found = []
    for path in written_files():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if pattern.search(line) and path.name not in SHOWS_A_BREACH:
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


def test_checks_bite():
    assert MACHINE_PATH.search("open('/home/someone/data')")
    assert not MACHINE_PATH.search("records/work/plan")
    assert REGISTRY.search("pip install --index" + "-url https://example.test x")


def test_changelog_and_package_have_one_version():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    packaged = SETTINGS["project"]["version"]
    in_code = re.search(r'^__version__ = "(.+)"', (ROOT / "src/shoal/__init__.py").read_text(), re.MULTILINE).group(1)
    assert newest == packaged == in_code


def test_every_test_folder_has_a_budget():
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    assert folders <= set(SETTINGS["tool"]["shoal"]["test_budgets_s"])


def test_every_dependency_is_locked_with_hashes():
    for name in ["lock", "test"]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        locked = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
        wanted = {re.split(r"[><=\[]", line)[0] for line in SETTINGS["project"]["dependencies"]}
        assert wanted <= locked
        assert text.count("==") <= text.count("--hash=sha256:")
