# SPDX-License-Identifier: Apache-2.0
"""How many bytes a message carries: its arrays and scalars, not Python's overhead."""

from dataclasses import fields, is_dataclass
from typing import Any

from numpy import ndarray

NOTHING = ()
"""what messages have where there could be arrays but are none"""


def nbytes(value: Any) -> int:
    """Payload bytes of a pytree of tuples, lists, dicts, dataclasses, anything with `nbytes`, and scalars.

    What has `nbytes` is not looked into. Numbers count 8, text and bytes their length, None and unknown objects
    (functions, handles) nothing. An array made by broadcasting counts its full shape, so that simulation's twins weigh
    what they stand for.

    Check: equals the sum of `leaf.nbytes` over the leaves of nested containers.
    """
    kind = type(value)
    if kind is ndarray:
        return value.nbytes
    if isinstance(value, (tuple, list)):
        known = None if kind is tuple or kind is list else getattr(value, "nbytes", None)
        return _in_all(value) if known is None else known
    if isinstance(value, dict):
        return sum(map(nbytes, value.values()))
    if kind is int or kind is float:
        return 8
    if value is None:
        return 0
    size = getattr(value, "nbytes", None)
    if size is not None:
        return int(size)
    return _uncommon(value)


def _in_all(parts: tuple | list) -> int:
    total = 0
    for part in parts:
        if type(part) is ndarray:
            total += part.nbytes
        elif part is not NOTHING:
            total += nbytes(part)
    return total


def _uncommon(value: Any) -> int:
    if isinstance(value, bool):
        return 1
    if isinstance(value, (int, float)):
        return 8
    if isinstance(value, (bytes, bytearray, str)):
        return len(value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(nbytes(getattr(value, f.name)) for f in fields(value))
    return 0
