# SPDX-License-Identifier: Apache-2.0
"""Who may import what from outside, and who may make roles and wires: read off the source, nothing is imported."""

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class Wall:
    """Only modules under `inside` may import `names`; with `top_level_only` a function of any module may."""

    names: tuple[str, ...]
    inside: tuple[str, ...]
    reason: str
    top_level_only: bool = False


WALLS = (
    Wall(
        ("time", "threading", "multiprocessing", "queue", "concurrent", "asyncio"),
        ("shoal.engines", "shoal.processes", "shoal.envs.pace"),  # a step there takes as long as it is told
        "clocks, threads and queues belong to engines; work is timed by phase()",
    ),
    Wall(("greenlet",), ("shoal.engines",), "only the scheduler switches between workers"),
    Wall(("gymnasium", "ale_py"), ("shoal.envs",), "simulators stay behind their adapters"),
    Wall(("gymnax", "pgx"), (), "loading them takes seconds and starts JAX: importlib does it where an id needs them"),
    Wall(
        ("jax", "jaxlib", "equinox", "optax"),
        (
            "shoal.training",
            "shoal.placement",
            "shoal.actors",
            "shoal.learners",
            "shoal.agents",
            "shoal.losses",
            "shoal.networks",
            "shoal.envs.jitted",
        ),
        "help, errors and simulators must start without JAX; import it inside the function",
        top_level_only=True,
    ),
    Wall(("pickle", "dill", "cloudpickle", "shelve", "marshal"), (), "files are read as data, never executed"),
)

MAKERS_OF_WIRES = ("shoal.architectures", "shoal.engines")
MAKERS_OF_ENGINES = ("shoal.training", "shoal.placement", "shoal.engines", "shoal.cli.doctor")
WIRING = {"spawn", "channel", "service", "vector"}


def is_under(module: str, roots: tuple[str, ...]) -> bool:
    """Whether `module` is one of `roots` or inside one."""
    return any(module == root or module.startswith(root + ".") for root in roots)


def is_type_checking(node: ast.AST) -> bool:
    """Whether `node` is an `if TYPE_CHECKING:` block, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, in_function: bool = False):
    """Every import that can run: (line, module, imported names, whether it is inside a function)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, (), in_function
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module, tuple(alias.name for alias in node.names), in_function
        elif is_type_checking(node):
            yield from (found for child in node.orelse for found in imports(child, in_function))
        else:
            inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, inside)


def broken_walls(module: str, source: str) -> list[str]:
    """One line for each import of `source` that `module` may not make."""
    faults = []
    for line, imported, _, in_function in imports(ast.parse(source)):
        for wall in WALLS:
            allowed = is_under(module, wall.inside) or (wall.top_level_only and in_function)
            if imported.split(".")[0] in wall.names and not allowed:
                faults.append(f"{module}:{line} imports {imported}: {wall.reason}")
    return faults


def misplaced_wiring(module: str, source: str) -> list[str]:
    """One line for each role, wire or engine that `module` makes and may not."""
    faults, tree = [], ast.parse(source)
    for line, imported, names, _ in imports(tree):
        if is_under(imported, ("shoal.engines",)):
            if "system" in names and not is_under(module, MAKERS_OF_WIRES):
                faults.append(f"{module}:{line} opens a system: roles and wires are made in architectures only")
            if "make_engine" in names and not is_under(module, MAKERS_OF_ENGINES):
                faults.append(f"{module}:{line} makes an engine: a program never knows which engine runs it")
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if is_call and node.func.attr in WIRING and not is_under(module, MAKERS_OF_WIRES):
            faults.append(
                f"{module}:{node.lineno} calls .{node.func.attr}(): roles and wires are made in architectures"
            )
    return faults
