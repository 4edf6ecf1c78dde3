# SPDX-License-Identifier: Apache-2.0
"""Values as a form (text) and arrays, and back, for crossing to another process. No pickle: nothing read is executed.

Numbers, text, lists, tuples, dicts and arrays cross as they are; named tuples and dataclasses by their class
and fields; functions and classes by name; partials and bound methods by what they are made of. A value with a
`recipe`, (function, arguments), is made again on the other side by calling it. All else is refused in one line.
"""

import functools
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np

from shoal.errors import ConfigError, ShoalError
from shoal.processes.memory import align

REMEDY = "or use --engine threads"
KINDS = (
    "array", "scalar", "handle", "list", "tuple", "dict", "bytes", "named", "data", "code", "partial", "method", "made",
)  # fmt: skip
"""what a part of a form may begin with"""
CACHED = 4096
"""characters up to which a form is kept parsed: those of arrays come again and again, those of long lists do not"""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Packed(NamedTuple):
    """A value taken apart."""

    form: str
    arrays: list[np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take in a slot."""
        return sum(align(array.nbytes) for array in self.arrays)


def pack(value: Any, handle: Callable[[Any], Any] = lambda _: None) -> Packed:
    """Take a value apart. Raises ConfigError in one line for what cannot cross.

    Args:
      handle: the key of a value that both sides know by key, such as a wire, or None.

    Check: `unpack(pack(value))` equals the value, leaf by leaf.
    """
    arrays: list[np.ndarray] = []
    form = _form(value, arrays, handle)
    return Packed(_encode(form), arrays)


def unpack(form: str, arrays: list[np.ndarray], handle: Callable[[Any], Any] = str, *, calls: bool = False) -> Any:
    """The value again, its arrays being those given.

    Args:
      calls: whether functions may be looked up by name, modules imported for them, and recipes called: only for what
        the launcher of this process sends.
    """
    return _Reader(iter(arrays), handle, calls).value(_parse(form))


def write(packed: Packed, memory: np.ndarray) -> None:
    """Copy the arrays into memory [bytes] uint8, each at the next multiple of ALIGNMENT."""
    at = 0
    for array in packed.arrays:
        if array.nbytes:
            np.ndarray(array.shape, array.dtype, memory.data, at)[...] = array
        at += align(array.nbytes)


def read(form: str, memory: np.ndarray) -> list[np.ndarray]:
    """Arrays over memory that `write` filled: views, not copies."""
    arrays, at = [], 0
    for dtype, shape in _specs(_parse(form)):
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        arrays.append(memory[at : at + size].view(kind).reshape(shape))
        at += align(size)
    return arrays


def import_path(value: Any) -> str:
    """`module:qualified.name` of a function or class. Raises ConfigError where no other process could find it."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "?")
    if module == "__main__":
        raise ConfigError(f"{name} is defined in the script that is running; move it to a module of its own, {REMEDY}")
    if module is None or "<" in name or _find(module, name) is not value:
        what = "a lambda" if "<lambda>" in name else f"{name} of {module}"
        raise ConfigError(
            f"{what} cannot be found by name in another process; make it a function of a module, {REMEDY}"
        )
    return f"{module}:{name}"


def find(path: str) -> Any:
    """What `module:qualified.name` names, importing the module."""
    module, _, name = path.partition(":")
    importlib.import_module(module)
    return _find(module, name)


def _find(module: str, name: str) -> Any:
    value = sys.modules.get(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _form(value: Any, arrays: list, handle: Callable) -> Any:  # noqa: PLR0911 one line a kind
    if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
        return value
    if isinstance(value, type):
        return ["code", import_path(value)]
    key = handle(value)
    if key is not None:
        return ["handle", key]
    if hasattr(value, "__array__"):
        array = _array(np.asarray(value), arrays)
        return ["scalar", array] if isinstance(value, np.generic) else array
    recipe = getattr(value, "recipe", None)
    if recipe is not None:
        return ["made", *(_form(part, arrays, handle) for part in recipe)]
    if isinstance(value, (list, tuple)):
        kind = ["list"] if isinstance(value, list) else ["tuple"]
        if hasattr(value, "_fields"):
            kind = ["named", import_path(type(value))]
        return [*kind, *(_form(item, arrays, handle) for item in value)]
    if isinstance(value, dict):
        return ["dict", *(_form(part, arrays, handle) for pair in value.items() for part in pair)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", _array(np.frombuffer(bytes(value), np.uint8), arrays)]
    return _code(value, arrays, handle)


def _code(value: Any, arrays: list, handle: Callable) -> Any:
    if is_dataclass(value):
        held = {f.name: _form(getattr(value, f.name), arrays, handle) for f in fields(value)}
        return ["data", import_path(type(value)), held]
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return ["code", import_path(value)]
    if isinstance(value, functools.partial):
        made_of = (value.func, list(value.args), value.keywords)
        return ["partial", *(_form(part, arrays, handle) for part in made_of)]
    if isinstance(value, MethodType):
        return ["method", _form(value.__self__, arrays, handle), value.__name__]
    if isinstance(value, (int, float)):
        return float(value) if isinstance(value, float) else int(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ConfigError(
        f"a {name} cannot cross to another process; pass arrays, plain records or importable names, {REMEDY}"
    )


def _array(array: np.ndarray, arrays: list) -> list:
    if array.dtype.kind not in "biufcSUmM":
        raise ConfigError(f"an array of dtype {array.dtype} cannot cross to another process; pass numbers, {REMEDY}")
    arrays.append(array)
    return ["array", array.dtype.str, list(array.shape)]


def _parse(form: str) -> Any:
    return _parse_once(form) if len(form) <= CACHED else json.loads(form)


@functools.lru_cache(maxsize=512)
def _parse_once(form: str) -> Any:
    return json.loads(form)


def _specs(form: Any) -> list[tuple[str, list[int]]]:
    """dtype and shape of every array of a form, in order."""
    if isinstance(form, dict):
        return [spec for part in form.values() for spec in _specs(part)]
    if not isinstance(form, list):
        return []
    if form and form[0] == "array":
        return [(form[1], form[2])]
    return [spec for part in form for spec in _specs(part)]


class _Reader:
    """Builds a value from its form."""

    def __init__(self, arrays: Any, handle: Callable[[Any], Any], calls: bool):
        self._arrays, self._known, self._calls = arrays, handle, calls

    def value(self, form: Any) -> Any:
        if not isinstance(form, list):
            return form
        if form[0] not in KINDS:
            raise ShoalError(f"a message holds a {form[0]!r}, which is no kind of value")
        return getattr(self, "_" + form[0])(*form[1:])

    def _array(self, _dtype: str, _shape: list[int]) -> np.ndarray:
        return next(self._arrays)

    def _scalar(self, array: Any) -> np.generic:
        return self.value(array)[()]

    def _handle(self, key: Any) -> Any:
        return self._known(key)

    def _list(self, *items: Any) -> list:
        return [self.value(item) for item in items]

    def _tuple(self, *items: Any) -> tuple:
        return tuple(self.value(item) for item in items)

    def _dict(self, *items: Any) -> dict:
        parts = [self.value(item) for item in items]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def _bytes(self, array: Any) -> bytes:
        return self.value(array).tobytes()

    def _named(self, path: str, *items: Any) -> Any:
        return self._record(path)(*(self.value(item) for item in items))

    def _data(self, path: str, held: dict[str, Any]) -> Any:
        kind = self._record(path)
        values = {name: self.value(part) for name, part in held.items()}
        later = {f.name: values.pop(f.name) for f in fields(kind) if not f.init}
        made = kind(**values)
        for name, value in later.items():
            object.__setattr__(made, name, value)
        return made

    def _record(self, path: str) -> Any:
        """A class of plain records; unless calls are allowed it must be one that this process knows already."""
        kind = find(path) if self._calls else _find(*path.split(":"))
        if not isinstance(kind, type) or not (is_dataclass(kind) or hasattr(kind, "_fields")):
            raise ShoalError(f"{path} is no class of records that this process knows")
        return kind

    def _code(self, path: str) -> Any:
        self._allow(path)
        return find(path)

    def _partial(self, fn: Any, args: Any, keywords: Any) -> Any:
        self._allow("a partial")
        return functools.partial(self.value(fn), *self.value(args), **self.value(keywords))

    def _method(self, owner: Any, name: str) -> Any:
        self._allow(name)
        return getattr(self.value(owner), name)

    def _made(self, fn: Any, args: Any) -> Any:
        self._allow("a recipe")
        made = self.value(fn)
        return (find(made) if isinstance(made, str) else made)(*self.value(args))

    def _allow(self, what: str) -> None:
        if not self._calls:
            raise ShoalError(f"a message may hold data only, not {what}")
