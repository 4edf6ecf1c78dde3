# SPDX-License-Identifier: Apache-2.0
"""Size of files and functions, headers, documentation, words: what a reader may rely on in every file."""

import ast
import re
from pathlib import Path

import pytest

from repository.sources import PYTHON, ROOT, SOURCES, module_name

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_ARCHITECTURE_LINES = 150  # without docstrings, comments and blank lines
BANNED_NAMES = re.compile(r"^(dones?|is_done|hstate|itr|num_timesteps|core_state)$|optimizer|normaliz")
BANNED_MODULES = {"utils", "util", "misc", "common", "helpers", "legacy"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = FUNCTIONS | ast.ClassDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstring_lines(node) -> int:
    """Lines of a definition's docstring, 0 without one."""
    if not ast.get_docstring(node):
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def long_functions(source: str) -> list[str]:
    """Functions whose code is longer than the budget."""
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, FUNCTIONS)]
    lengths = {n.name: n.end_lineno - n.lineno + 1 - docstring_lines(n) for n in nodes}
    return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES]


def given_names(source: str) -> set[str]:
    """Names that a file defines itself: functions, classes, arguments, variables, attributes it sets."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def undocumented(source: str) -> list[str]:
    """Public classes and functions at the top of a file that say nothing about themselves, and the file itself."""
    tree = ast.parse(source)
    nodes = [n for n in tree.body if isinstance(n, DOCUMENTED) and not n.name.startswith("_")]
    return [n.name for n in nodes if not ast.get_docstring(n)] + ([] if ast.get_docstring(tree) else ["<module>"])


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_is_short_and_signed(path):
    source = path.read_text()
    assert source.count("\n") <= MAX_FILE_LINES, f"over {MAX_FILE_LINES} lines: split the file by what it is about"
    assert long_functions(source) == []
    assert source.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert source.count("SPDX-License-" + "Identifier") == 1 or path.parent.name == "repository"


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_keeps_the_vocabulary(path):
    assert not BANNED_MODULES & set(path.relative_to(ROOT).with_suffix("").parts), "name the module by what it holds"
    assert [name for name in given_names(path.read_text()) if BANNED_NAMES.search(name)] == []


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_public_names_are_documented(path):
    assert undocumented(path.read_text()) == []


def architecture_files() -> list[Path]:
    not_programs = {"__init__", "registry", "presets"}
    return [p for p in SOURCES if p.parent.name == "architectures" and p.stem not in not_programs]


def code_lines(source: str) -> int:
    """Lines that are neither blank, nor comment, nor string statement (docstrings and field descriptions)."""
    strings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            strings |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(t.strip()) and not t.strip().startswith("#") and number not in strings for number, t in lines)


@pytest.mark.parametrize("path", architecture_files(), ids=lambda p: p.stem)
def test_architecture_is_short(path):
    assert code_lines(path.read_text()) <= MAX_ARCHITECTURE_LINES


def test_checks_bite():
    assert long_functions("def f():\n" + "    x = 1\n" * 51) == ["f: 52 lines"]
    assert long_functions('def f():\n    """Long.\n' + "\n" * 60 + '    """\n    return 1') == []
    assert [n for n in given_names("done = True\nx.dones = 1\ndef f(hstate): ...") if BANNED_NAMES.search(n)]
    assert undocumented("def f(): ...\nclass C: ...\ndef _g(): ...") == ["f", "C", "<module>"]
    assert code_lines('"""Doc\n\nstring."""\n\n# why\nx = 1\n"""field"""\n') == 1


def test_a_folder_takes_too_long_beside_what_most_take_of_their_budgets(pytestconfig):
    """A machine that is slow at everything is no folder's fault, within reason."""
    (conftest,) = [plugin for plugin in pytestconfig.pluginmanager.get_plugins() if hasattr(plugin, "too_long")]
    names = "abcdef"
    assert conftest.too_long(dict.fromkeys(names, 0.5) | {"a": 3.1}) == ["a"]
    assert conftest.too_long(dict.fromkeys(names, 4.0)) == []
    assert conftest.too_long(dict.fromkeys(names, 4.0) | {"a": 12.1}) == ["a"]
    assert conftest.too_long(dict.fromkeys(names, 16.0)) == list(names)
    assert conftest.too_long({"a": 3.1}) == ["a"]
