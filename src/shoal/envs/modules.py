# SPDX-License-Identifier: Apache-2.0
"""Users' own environments: import `module:Attribute` with the working directory first, and explain what fails."""

import difflib
import importlib
import inspect
import os
import sys
from typing import Any

from shoal.envs.base import describe_error
from shoal.errors import ConfigError


def import_user_module(name: str, env_id: str) -> Any:
    """Import a user's module, looking in the working directory first, as `python -m` does.

    The entry stays on the path: environments import their neighbours later, too.
    """
    folder = os.getcwd()
    if not sys.path or sys.path[0] not in ("", folder):
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(missing + "."):
            reason = f"no module named {missing!r} in {folder} or among the installed packages"
            raise ConfigError(f"{env_id}: {reason}; check the name or start from the folder that holds it") from error
        raise ConfigError(f"{env_id}: module {name} needs {missing!r}, which is not installed; install it") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(f"{env_id}: importing {name} raised {describe_error(error)}; fix the module") from error


def find_attribute(module: Any, path: str) -> Any:
    """The attribute `Outer.Inner` of a module, or None."""
    value = module
    for part in path.split("."):
        value = getattr(value, part, None)
        if value is None:
            return None
    return value


def nearest_attributes(module: Any, wanted: str) -> list[str]:
    """Environment-like names of a module, nearest first."""
    candidates = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and hasattr(value, "reset") and hasattr(value, "step")
    ]
    return difflib.get_close_matches(wanted, candidates, n=3, cutoff=0.3) or sorted(candidates)[:3]


def check_keywords(env_id: str, constructor: Any, kwargs: dict[str, Any]) -> None:
    """Refuse settings the constructor does not take, naming those it does."""
    try:
        signature = inspect.signature(constructor)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        if set(kwargs) - set(accepted_names(constructor)):
            raise refuse_keywords(env_id, kwargs, accepted_names(constructor)) from error
        raise ConfigError(f"{env_id}: {error}; give it with --env-kwargs or a default") from error


def accepted_names(constructor: Any) -> list[str]:
    """Keyword names a constructor takes."""
    try:
        parameters = inspect.signature(constructor).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def refuse_keywords(env_id: str, kwargs: dict[str, Any], valid: list[str]) -> ConfigError:
    """The one line for settings nobody reads."""
    unknown = ", ".join(sorted(set(kwargs) - set(valid)))
    return ConfigError(f"{env_id}: unknown env_kwargs {unknown}; valid names: {', '.join(valid) or 'none'}")


def importable_name(thing: Any) -> str | None:
    """`module:Name` by which any process finds a class or function again.

    None where no name leads to it: lambdas, what was made inside a function, what the main script defines.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if module is None or module == "__main__" or not name.isidentifier():
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is thing else None
