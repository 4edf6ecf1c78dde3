# SPDX-License-Identifier: Apache-2.0
"""From an environment's own form of observations to the form that travels, and back for actions.

Single environments: copied into their rows of the batch, checked entry by entry. Copying also ends any aliasing with
the environment's own arrays. Whether numbers are finite is asked once for the whole batch: `checks.refuse_non_finite`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from shoal.envs.checks import OBS_REMEDY, Breach, form
from shoal.types import ActionSpec, Box, MultiDiscrete, ObsSpec

Writer = Callable[[Any], None]


def writer(space: Any, row: Any) -> Writer:
    """write(obs), which copies an observation of `space` into `row`, the views [...] of one environment's arrays.

    `write` raises Breach, with the path of the entry, where an observation is not of the space's form.
    """
    if isinstance(space, spaces.Dict):
        return partial(_write_dict, {name: writer(space[name], part) for name, part in row.items()})
    if isinstance(space, spaces.Tuple):
        return partial(_write_tuple, [writer(part, row[i]) for i, part in enumerate(space.spaces)])
    if isinstance(space, spaces.Discrete):
        return partial(_write_one_hot, row, int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.ravel().astype(np.int64)
        return partial(_write_one_hots, row, space.start, space.nvec, np.cumsum(sizes) - sizes)
    if row.dtype == np.bool_ or isinstance(space, spaces.MultiBinary):
        return partial(_write_bits, row)
    return partial(_write_box, row)


def batch_encoder(space: Any, spec: ObsSpec) -> Callable[[Any], Any]:
    """encode(batch): what a vector environment of this single space returns, [N, ...], in the form of `spec`.

    It trusts the batch to be what was declared. Arrays are passed on where they fit.

    Check: equals `writer` on each environment's part.
    """
    if isinstance(space, spaces.Dict):
        parts = {name: batch_encoder(space[name], spec[name]) for name in spec}
        return lambda batch: {name: encode(batch[name]) for name, encode in parts.items()}
    if isinstance(space, spaces.Tuple):
        encoders = [batch_encoder(part, spec[i]) for i, part in enumerate(space.spaces)]
        return lambda batch: tuple(encode(part) for encode, part in zip(encoders, batch, strict=True))
    if isinstance(space, spaces.Discrete):
        row, first = np.eye(int(space.n), dtype=np.float32), int(space.start)
        return lambda batch: row[batch - first]
    if isinstance(space, spaces.MultiDiscrete):
        rows = [np.eye(int(n), dtype=np.float32) for n in space.nvec.ravel()]
        return lambda batch: np.concatenate(
            [row[values] for row, values in zip(rows, (batch - space.start).reshape(len(batch), -1).T, strict=True)], -1
        )
    return lambda batch: batch.astype(spec.dtype, copy=False)


def native_action(spec: ActionSpec, space: Any, action: np.ndarray) -> np.ndarray:
    """Actions [N, ...] in the form that an environment's own space has.

    Check: the space contains each of them.
    """
    if isinstance(spec, Box):
        return action.astype(space.dtype)
    if isinstance(spec, MultiDiscrete):
        return action.reshape(len(action), *space.shape).astype(space.dtype) + getattr(space, "start", 0)
    return action + int(space.start)


def _write_dict(parts: dict[str, Writer], obs: Any) -> None:
    if not isinstance(obs, dict):
        raise Breach(f"returned {form(obs)} as obs, declared a dict of {', '.join(parts)}", OBS_REMEDY)
    if obs.keys() != parts.keys():
        missing, unknown = sorted(parts.keys() - obs.keys()), sorted(map(str, obs.keys() - parts.keys()))
        wrong = [f"without entry {name!r}" for name in missing] + [
            f"with undeclared entry {name!r}" for name in unknown
        ]
        raise Breach(f"returned an obs {' and '.join(wrong)}", OBS_REMEDY)
    for name, write in parts.items():
        try:
            write(obs[name])
        except Breach as breach:
            raise breach.within(name) from breach.__cause__


def _write_tuple(parts: list[Writer], obs: Any) -> None:
    if not isinstance(obs, (tuple, list)) or len(obs) != len(parts):
        raise Breach(f"returned {form(obs)} as obs, declared a tuple of {len(parts)} entries", OBS_REMEDY)
    for index, write in enumerate(parts):
        try:
            write(obs[index])
        except Breach as breach:
            raise breach.within(str(index)) from breach.__cause__


def _write_box(row: np.ndarray, obs: Any) -> None:
    if type(obs) is np.ndarray and obs.dtype == row.dtype and obs.shape == row.shape:
        row[...] = obs
        return
    array = _array(obs, row.shape)
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused with the batch
            np.copyto(row, array, casting="same_kind")
    except TypeError as error:
        raise Breach(f"returned an obs of dtype {array.dtype}, declared {row.dtype}", OBS_REMEDY) from error


def _write_bits(row: np.ndarray, obs: Any) -> None:
    """Zeros and ones, or bools, of any number type: masks and MultiBinary."""
    array = _array(obs, row.shape)
    if array.dtype.kind not in "buif":
        raise Breach(f"returned an obs of dtype {array.dtype}, declared bits", OBS_REMEDY)
    bits = array != 0
    if array.dtype != np.bool_ and not np.array_equal(bits, array):
        raise Breach("returned an obs with other values than the bits 0 and 1", OBS_REMEDY)
    row[...] = bits


def _write_one_hot(row: np.ndarray, start: int, obs: Any) -> None:
    """A Discrete obs; `start` is the space's first value."""
    if isinstance(obs, np.ndarray) and obs.ndim == 0:
        obs = obs[()]
    if not isinstance(obs, (int, np.integer)):
        raise Breach(f"returned {form(obs)} as a Discrete obs", OBS_REMEDY)
    if not 0 <= int(obs) - start < len(row):
        raise Breach(f"returned obs {obs}, declared {start} .. {start + len(row) - 1}", OBS_REMEDY)
    row[:] = 0
    row[int(obs) - start] = 1


def _write_one_hots(row: np.ndarray, start: np.ndarray, nvec: np.ndarray, places: np.ndarray, obs: Any) -> None:
    """A MultiDiscrete obs; `start` are the first values and `places` where the vector of each number begins."""
    array = _array(obs, nvec.shape)
    if array.dtype.kind not in "ui":
        raise Breach(f"returned an obs of dtype {array.dtype}, declared whole numbers", OBS_REMEDY)
    index = array.astype(np.int64) - start
    if (index < 0).any() or (index >= nvec).any():
        bad = np.argwhere((index < 0) | (index >= nvec))[0]
        first, size = int(start[tuple(bad)]), int(nvec[tuple(bad)])
        found = f"obs {array[tuple(bad)]} at index {tuple(int(i) for i in bad)}"
        raise Breach(f"returned {found}, declared {first} .. {first + size - 1}", OBS_REMEDY)
    row[:] = 0
    row[places + index.ravel()] = 1


def _array(obs: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The observation as an array of the declared shape."""
    if obs is None:
        raise Breach("returned None as obs", OBS_REMEDY)
    try:
        array = np.asarray(obs)
    except ValueError as error:
        raise Breach(f"returned an obs that is no array ({error})", OBS_REMEDY) from error
    if array.shape != shape:
        raise Breach(f"returned an obs of shape {array.shape}, declared {shape}", OBS_REMEDY)
    return array
