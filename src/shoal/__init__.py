# SPDX-License-Identifier: Apache-2.0
"""Parallel reinforcement learning: one program per architecture, run inline, on threads or in simulated time.

Names load on first use, so `import shoal` and `import shoal.envs` start no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "errors", "evaluate", "load", "load_policy", "resume", "train"]

if TYPE_CHECKING:
    from shoal import errors
    from shoal.agents.export import load_policy
    from shoal.training import evaluate, load, resume, train

_FROM_TRAINING = ("evaluate", "load", "resume", "train")


def __getattr__(name: str) -> Any:
    # the module names are strings so that the import ladder sees no way up from the bottom through the package itself
    if name in _FROM_TRAINING:
        return getattr(import_module("shoal.training"), name)
    if name == "load_policy":
        return import_module("shoal.agents.export").load_policy
    if name == "errors":
        return import_module("shoal.errors")
    raise AttributeError(f"shoal has no name {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
