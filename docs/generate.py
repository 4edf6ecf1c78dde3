# SPDX-License-Identifier: Apache-2.0
"""Write the pages of docs/ that repeat what code and tests say: architectures, systems, metrics, exit codes.

The README gets the table of systems between its markers.

python docs/generate.py            write them
python docs/generate.py --check    exit 1 if a page differs from what would be written
"""

import ast
import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Any

import systems

from shoal import errors
from shoal.architectures import registry
from shoal.records.metrics import METRICS

FOLDER = Path(__file__).resolve().parent
README = FOLDER.parent / "README.md"
NOTE = "<!-- written by `make docs`; change the code it names instead -->\n"


def field_meanings(config: type) -> dict[str, str]:
    """The string under each field, over the class and what it inherits; the class's own strings win."""
    meanings: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        tree = ast.parse(inspect.getsource(cls))
        body = tree.body[0].body
        for field, text in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                meanings[field.target.id] = text.value.value
    return meanings


def type_name(annotation: Any) -> str:
    """How a field's type is written, without module names."""
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.replace("typing.", "").replace("|", "or")


def architecture_page(name: str) -> str:
    """One architecture: its own description and flow, what may cross, and every field."""
    module = registry.load(name)
    meanings = field_meanings(module.Config)
    must, never = registry.promises(module, module.Config())
    rows = [
        f"| `--{f.name.replace('_', '-')}` | {type_name(f.type)} | `{f.default}` | {meanings[f.name]} |"
        for f in dataclasses.fields(module.Config)
    ]
    return "\n".join([
        NOTE,
        f"# {name}\n",
        f"```text\n{module.__doc__.strip()}\n```\n",
        f"Source: `{module.__name__}`, one file. `shoal describe {name}` counts what crosses.\n",
        f"- must cross: {', '.join(must)}",
        f"- must never cross: {', '.join(never)}\n",
        "| field | type | default | meaning |\n| --- | --- | --- | --- |",
        *rows,
        "",
    ])  # fmt: skip


def index_page() -> str:
    """All architectures, one line each."""
    lines = [module.__doc__.strip().splitlines()[0] for module in map(registry.load, registry.ARCHITECTURES)]
    rows = [f"- [{name}]({name}.md): {line}" for name, line in zip(registry.ARCHITECTURES, lines, strict=True)]
    return "\n".join([NOTE, "# Architectures\n", *rows, ""])


def metrics_page() -> str:
    """Every name of metrics.jsonl."""
    rows = [f"| `{m.name}` | {m.unit} | {m.meaning} |" for m in METRICS]
    return "\n".join([NOTE, "# Metrics\n", "| name | unit | meaning |\n| --- | --- | --- |", *rows, ""])


def exit_codes_page() -> str:
    """Every fault that shoal explains, by exit code."""
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and c is not errors.ShoalError]
    rows = [f"| {c.exit_code} | `{c.__name__}` | {c.__doc__} |" for c in sorted(kinds, key=lambda c: c.exit_code)]
    others = [
        "| 0 | | success |",
        "| 1 | | something unexpected; the line says where the traceback is. Also `evaluate --at-least` not met |",
    ]
    signals = ["| 130 | | stopped by Ctrl-C, after saving |", "| 143 | | stopped by SIGTERM, after saving |"]
    head = "| code | fault | meaning |\n| --- | --- | --- |"
    return "\n".join([NOTE, "# Exit codes\n", head, *others, *rows, *signals, ""])


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    architectures = {
        FOLDER / "architectures" / f"{name}.md": architecture_page(name) for name in registry.ARCHITECTURES
    }
    evidence = systems.load_evidence(FOLDER / "evidence.json")
    return architectures | {
        README: systems.inserted(README.read_text(), evidence),
        FOLDER / "systems.md": systems.page(evidence, NOTE),
        FOLDER / "architectures" / "README.md": index_page(),
        FOLDER / "metrics.md": metrics_page(),
        FOLDER / "exit_codes.md": exit_codes_page(),
    }


def stale() -> list[str]:
    """Generated pages that are missing or differ from what code and tests say now."""
    return [
        path.relative_to(FOLDER.parent).as_posix()
        for path, text in pages().items()
        if not path.is_file() or path.read_text() != text
    ]


def main(argv: list[str]) -> int:
    """Write the pages, or say which would change."""
    try:
        return write_or_check(argv)
    except ValueError as fault:  # pages that cannot take what goes into them
        print(fault)
        return 1


def write_or_check(argv: list[str]) -> int:
    """The exit code of `main`; faults come out as exceptions."""
    if argv == ["--check"]:
        for name in stale():
            print(f"{name} is not what code and tests say: run `make docs`")
        return bool(stale())
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    print(f"wrote {len(pages())} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
