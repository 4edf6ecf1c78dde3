# SPDX-License-Identifier: Apache-2.0
"""What crosses arrives equal, leaf by leaf; what cannot cross is refused in one line; nothing read is executed."""

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from processes.records import Counter, Opaque, Outer, Pair, Point, make_closure, scale
from shoal.errors import ConfigError, ShoalError
from shoal.processes import codec

dtypes = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    st.sampled_from([np.dtype("S3"), np.dtype("<U2"), np.dtype("M8[ns]"), np.dtype("m8[s]")]),
)
any_array = dtypes.flatmap(
    lambda d: arrays.arrays(d, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats())
words = st.one_of(st.text(max_size=6), st.sampled_from([*codec.KINDS, "", "\ud800", "\0", "日本", '"\\']))
keys = st.one_of(words, st.integers(-9, 9), st.tuples(words, st.integers(0, 3)), st.builds(np.int64, st.integers(0, 9)))
leaves = st.one_of(numbers, words, st.binary(max_size=9), any_array, st.builds(np.float32, st.floats(width=32)))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
    ),
    max_leaves=12,
)


def through(value, **settings):
    """A value after it went through memory that another process might have written."""
    packed = codec.pack(value)
    memory = np.zeros(packed.nbytes, np.uint8)
    codec.write(packed, memory)
    return codec.unpack(packed.form, codec.read(packed.form, memory), **settings)


def same(a, b) -> bool:
    """Whether two values are of one form, type, dtype and content, NaN being equal to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(map(type, a)) == list(map(type, b)) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Point):
        return same((a.x, a.y, a.size), (b.x, b.y, b.size))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or (math.isnan(a) and math.isnan(b))
    return a == b


@settings(max_examples=300, deadline=None)
@given(trees)
def test_a_tree_arrives_as_it_was(value):
    assert same(through(value), value)


@settings(max_examples=50, deadline=None)
@given(any_array)
def test_arrays_need_not_be_contiguous(array):
    for view in (array.T, array[::-1] if array.ndim else array, np.broadcast_to(array, (2, *array.shape))):
        assert same(through(view), np.ascontiguousarray(view).reshape(view.shape))


def test_two_values_that_differ_stay_different():
    for a, b in [(0, 0.0), (1, True), ((), []), (np.zeros(1), np.zeros(1, np.float32)), ("1", 1), (0.0, -0.0)]:
        assert not same(through(a), through(b))


def test_arrays_lie_aligned_in_memory_and_are_not_copied():
    packed = codec.pack([np.ones(3, np.int8), np.zeros(0), np.ones(100, np.float32)])
    memory = np.zeros(packed.nbytes, np.uint8)
    codec.write(packed, memory)
    first, empty, last = codec.unpack(packed.form, codec.read(packed.form, memory))
    memory[0] = 7
    assert first.tolist() == [7, 1, 1]
    assert empty.size == 0
    assert last.ctypes.data - memory.ctypes.data == 64


def test_jax_arrays_arrive_as_numpy():
    got = through({"a": jnp.arange(3), "b": jnp.float32(2)})
    assert same(got, {"a": np.arange(3, dtype=np.int32), "b": np.array(2, np.float32)})


def test_code_arrives_as_the_same_code():
    for value in (scale, Point, Outer.Inner, Outer.twice, os.getpid, np.float32, np.ndarray, Counter, math.sqrt):
        assert through(value, calls=True) is value
    assert through(Outer.Inner(3), calls=True) == Outer.Inner(3)


def test_partials_methods_and_recipes_are_made_again():
    weights = np.arange(3.0)
    assert through(functools.partial(scale, 2.0, offset=1.0), calls=True)(3.0) == 7.0
    assert through(Counter(3, weights).add, calls=True)(4) == 7
    made = through([Counter(3, weights)], calls=True)[0]
    assert (type(made), made.start) == (Counter, 3)
    assert np.array_equal(made.weights, weights)
    nested = functools.partial(functools.partial(scale, 2.0), offset=np.float64(1.5))
    assert through(nested, calls=True)(1) == 3.5


def test_what_both_sides_know_crosses_by_its_key():
    wire = Opaque()
    packed = codec.pack((wire, 1), lambda value: "w/1" if value is wire else None)
    assert codec.unpack(packed.form, [], {"w/1": wire}.get) == (wire, 1)


def defined_in_the_script() -> Callable:
    """A function as a script has it."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def act(index): ...", namespace)
    return namespace["act"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda x: x, "a lambda cannot be found by name in another process; make it a function of a module"),
        ([{"fn": (lambda x: x,)}], "a lambda cannot be found by name"),
        (make_closure(2), r"make_closure.<locals>.add of processes.records cannot be found by name"),
        (functools.partial(make_closure(2)), "cannot be found by name"),
        (defined_in_the_script(), "act is defined in the script that is running; move it to a module of its own"),
        (np.array([object()]), "an array of dtype object cannot cross to another process; pass numbers"),
        (np.zeros(2, "i4,f4"), "cannot cross to another process; pass numbers"),
        (Opaque(), "a processes.records.Opaque cannot cross to another process; pass arrays, plain records or"),
        ({"a": [Opaque()]}, "a processes.records.Opaque cannot cross"),
        ({1, 2}, "a builtins.set cannot cross"),
        (Path("x"), "Path cannot cross"),
        (3j, "a builtins.complex cannot cross"),
        (Opaque().__init__, "cannot cross|cannot be found"),
    ],
)
def test_what_cannot_cross_is_refused_in_one_line(value, says):
    with pytest.raises(ConfigError, match=says) as caught:
        codec.pack(value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("or use --engine threads")


@pytest.mark.parametrize(
    "value", [scale, Counter(1, np.ones(2)), functools.partial(scale, 1.0), Counter(1, np.ones(2)).add]
)
def test_code_is_refused_in_a_message_of_data(value):
    with pytest.raises(ShoalError, match="a message may hold data only|no class of records"):
        through([value])


def test_classes_that_were_not_imported_yet_are_refused_in_a_message_of_data():
    for path in (
        "antigravity:Pair",
        "os:system",
        "processes.records:Opaque",
        "processes.records:scale",
        "nothing",
        ":",
    ):
        for form in (["named", path, 1], ["data", path, {"x": 1}]):
            with pytest.raises((ShoalError, ValueError, TypeError)):
                codec.unpack(codec._encode(form), [])
    assert codec.unpack('["named","processes.records:Pair",1,2]', []) == Pair(1, 2)


@pytest.mark.parametrize(
    "kind", ["_init__", "_class__", "record", "allow", "known", "calls", "value", "", "eval", 3, None]
)
def test_a_kind_that_there_is_not_is_refused(kind):
    for form in ([kind, [], "x", True], ["list", [kind, [], "x", True], ["code", "os:getpid"]]):
        with pytest.raises(ShoalError, match="no kind of value|data only"):
            codec.unpack(codec._encode(form), [])


junk = st.recursive(
    st.one_of(st.none(), st.integers(), words, st.sampled_from(["os:system", "processes.records:Pair"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(junk)
def test_no_message_calls_anything(form):
    """Whatever it says, it gives data or an error: nothing in it is looked up, imported or called."""
    try:
        value = codec.unpack(codec._encode(form), [np.ones(2)])
    except (ShoalError, ValueError, TypeError, StopIteration, AttributeError, IndexError, KeyError):
        return
    codec.pack(value)
    assert not callable(value)


def test_long_forms_are_not_kept():
    before = codec._parse_once.cache_info().currsize
    assert through(list(range(5000))) == list(range(5000))
    assert codec._parse_once.cache_info().currsize == before
