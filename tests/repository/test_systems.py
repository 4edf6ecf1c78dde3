# SPDX-License-Identifier: Apache-2.0
"""The table of systems says what recorded tests say: nothing works by assertion, and a stale table is found."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from repository.sources import ROOT

GOOD = {"passed": 3, "failed": 0}
BAD = {"passed": 2, "failed": 1}
NONE = {"passed": 0, "failed": 0}


@pytest.fixture
def systems(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import systems

    return systems


def row(systems, *architectures):
    return next(s for s in systems.SYSTEMS if s.architectures == architectures)


@pytest.mark.parametrize(
    ("fingerprint", "learning", "status"),
    [
        (GOOD, GOOD, "works"),
        (GOOD, None, "runs, learning not yet accepted"),
        (GOOD, BAD, "runs, learning not yet accepted"),
        (GOOD, NONE, "runs, learning not yet accepted"),
        (BAD, GOOD, "not yet"),
        (NONE, GOOD, "not yet"),
        (None, GOOD, "not yet"),
        (None, None, "not yet"),
    ],
)
def test_status_follows_from_what_passed(systems, fingerprint, learning, status):
    kinds = {"fingerprint": fingerprint, "learning": learning}
    evidence = {"a2c": {kind: counts for kind, counts in kinds.items() if counts is not None}}
    assert systems.status(row(systems, "a2c"), evidence) == status
    assert systems.status(row(systems, "ppo"), evidence) == "not yet"


def test_evidence_for_what_does_not_exist_proves_nothing(systems):
    unregistered = [s for s in systems.SYSTEMS if not set(s.architectures) <= set(systems.registry.ARCHITECTURES)]
    proof = {subject: {"fingerprint": GOOD, "learning": GOOD} for s in unregistered for subject in s.subjects}
    assert {systems.status(s, proof) for s in unregistered} <= {"not yet"}


def test_a_setting_needs_evidence_of_its_own(systems):
    both = {"fingerprint": GOOD, "learning": GOOD}
    system = next(s for s in systems.SYSTEMS if s.setting == "optimisation=async")
    assert systems.status(system, {"a2c": both, "ppo": both}) == "not yet"
    assert systems.status(system, {"a2c/optimisation=async": both, "ppo": both}) == "not yet"
    assert systems.status(system, {f"{name}/optimisation=async": both for name in ("a2c", "ppo")}) == "works"


def test_every_architecture_has_a_row_and_every_row_a_known_name(systems):
    named = {name for s in systems.SYSTEMS for name in s.architectures}
    assert named == set(systems.registry.ARCHITECTURES) | set(systems.registry.PLANNED)


def test_recorded_evidence_is_about_rows_of_the_table(systems):
    subjects = {subject for s in systems.SYSTEMS for subject in s.subjects}
    assert set(systems.load_evidence(ROOT / "docs" / "evidence.json")) <= subjects


@pytest.fixture
def checkout(tmp_path):
    """README and docs alone, with pages as they should be, and the command that writes or checks them."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)

    def generate(*words):
        command = [sys.executable, tmp_path / "docs" / "generate.py", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert generate().returncode == 0
    return tmp_path, generate


def test_a_stale_table_fails_the_check(checkout):
    folder, generate = checkout
    readme = folder / "README.md"
    original = readme.read_text()
    readme.write_text(original.replace("| nobody |", "| everybody |", 1))
    answer = generate("--check")
    assert (answer.returncode, answer.stdout.splitlines()) == (
        1,
        ["README.md is not what code and tests say: run `make docs`"],
    )
    assert generate().returncode == 0
    assert readme.read_text() == original
    readme.write_text(original.replace("<!-- systems:end -->", ""))
    answer = generate("--check")
    assert answer.returncode == 1
    assert "README.md needs the lines" in answer.stdout


def test_a_failed_test_makes_both_pages_stale(checkout):
    folder, generate = checkout
    evidence = folder / "docs" / "evidence.json"
    evidence.unlink(missing_ok=True)
    assert generate().returncode == 0
    for outcome, shown in [(GOOD, "works"), (BAD, "not yet")]:
        evidence.write_text(json.dumps({"a2c": {"fingerprint": outcome, "learning": outcome}}))
        answer = generate("--check")
        assert answer.returncode == 1
        assert {line.split()[0] for line in answer.stdout.splitlines()} == {"README.md", "docs/systems.md"}
        assert generate().returncode == 0
        for page in (folder / "README.md", folder / "docs" / "systems.md"):
            assert next(line for line in page.read_text().splitlines() if "`a2c` |" in line).endswith(f"| {shown} |")


SAMPLE = """
import pytest

@pytest.mark.evidence("fingerprint")
@pytest.mark.parametrize("architecture", ["a2c", "ppo"])
def test_wires(architecture):
    assert architecture == "a2c"

@pytest.mark.evidence("learning", "a2c")
def test_band():
    pass

@pytest.mark.evidence("learning", "impala")
@pytest.mark.xfail
def test_expected_to_fail():
    raise AssertionError

@pytest.mark.evidence("fingerprint", "impala")
def test_error(no_such_fixture):
    pass

@pytest.mark.evidence("learning", "ppo")
def test_kept_short():
    pass

@pytest.mark.evidence("learning", "ppo")
def test_left_out():
    pass

def test_proves_nothing():
    pass
"""


def record(folder, *words):
    """Run the sample tests with the recorder and read what it wrote."""
    (folder / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-p", "evidence", "-q", "--evidence", folder / "found.json", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    found = folder / "found.json"
    return answer, json.loads(found.read_text()) if found.exists() else {}


def counts(found):
    return {(s, kind): (n["passed"], n["failed"]) for s, kinds in found.items() for kind, n in kinds.items()}


@pytest.mark.parametrize("spread", [[], ["--numprocesses", "2"]])
def test_the_recorder_counts_and_leaves_what_ran_in_part(tmp_path, spread):
    older = {"a2c": {"learning": BAD}, "ppo": {"learning": BAD}, "seed": {"fingerprint": GOOD}}
    (tmp_path / "found.json").write_text(json.dumps(older))
    _, found = record(tmp_path, "-k", "not left_out", *spread)
    assert counts(found) == {
        ("a2c", "fingerprint"): (1, 0),
        ("ppo", "fingerprint"): (0, 1),
        ("a2c", "learning"): (1, 0),
        ("impala", "learning"): (0, 1),  # expected to fail, and did
        ("impala", "fingerprint"): (0, 1),  # an error is no pass
        ("ppo", "learning"): (2, 1),  # a test of it was left out: the older entry stays
        ("seed", "fingerprint"): (3, 0),  # nothing of it ran
    }
    assert set(found["a2c"]["fingerprint"]) == {"passed", "failed", "commit", "date", "versions"}


def test_the_recorder_refuses_a_mark_that_says_too_little(tmp_path):
    (tmp_path / "test_bad.py").write_text(
        "import pytest\n\n@pytest.mark.evidence('fingerprint')\ndef test_of_what():\n    pass\n"
    )
    answer, found = record(tmp_path)
    assert answer.returncode == 4
    assert "write evidence(kind, architecture)" in answer.stderr + answer.stdout
    assert found == {}
