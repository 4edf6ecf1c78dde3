# SPDX-License-Identifier: Apache-2.0
"""What a memory will take, said by the shapes of what it keeps before anything is made."""

import math
from typing import Any, NamedTuple

from shoal.errors import ConfigError, MemoryShort
from shoal.processes.limits import free_memory
from shoal.replay.stacks import frames_of
from shoal.replay.sum_tree import SPAN, WIDTH
from shoal.trees import tree_items
from shoal.types import ACTION_MASK, ArraySpec, EnvSpec

ROW_NUMBERS = 16
"""bytes of reward, discount, steps and version"""


class Layout(NamedTuple):
    """How one shard of a memory is laid out."""

    streams: int
    """environments, each with a ring of its own; 0 where items lie in any order"""
    items: int
    """that can be drawn at most"""
    ring: int
    """slots of a ring; of a sequence, that many observations"""
    stacks: dict[str, int]
    """frames that each entry of observations is a stack of, by its path"""


def layout(config: Any, spec: EnvSpec) -> Layout:
    """The layout that a config asks for.

    Raises ConfigError where a sequence is longer than the memory, an unroll does not fit in, or rows are to make room
    by a priority that they do not have.
    """
    stacks = {path: _stack(config, path, leaf) for path, leaf in tree_items(spec.obs)}
    lookback = max(stacks.values()) - 1
    rows = -(-config.replay_capacity // config.replay_shards)
    if config.eviction == "priority" and config.priorities == "none":
        raise ConfigError("eviction='priority' goes by priorities, and there are none; set --priorities proportional")
    if config.sequence_length:
        learnt = config.sequence_length - config.burn_in
        if config.sequence_length > rows:
            raise ConfigError(
                f"sequence_length={config.sequence_length} rows are more than a memory of {rows} holds; lower "
                "--sequence-length or raise --replay-capacity"
            )
        return Layout(0, rows // learnt, config.sequence_length + 1 + lookback, stacks)
    if config.eviction == "priority":
        return Layout(0, rows, 1, {path: 1 for path in stacks})
    streams = -(-config.all_actors // config.replay_shards) * config.envs_per_actor
    length = -(-rows // streams)
    if length < config.unroll_length + lookback:
        raise ConfigError(
            f"replay_capacity={config.replay_capacity} leaves {length} rows for each of {streams} environments, and an "
            f"unroll of them needs {config.unroll_length + lookback}; raise --replay-capacity"
        )
    return Layout(streams, streams * length, length + config.n_step + lookback, stacks)


def shard_bytes(config: Any, spec: EnvSpec) -> int:
    """Bytes of one shard's arrays; of recurrent memory nothing is known yet, and it comes on top.

    Check: a memory that is made takes as many.
    """
    streams, items, ring, stacks = layout(config, spec)
    sequences = config.sequence_length
    slots = streams * ring or items
    cells = items * ring if sequences else slots
    action = math.prod(spec.action.shape) * 4
    obs = sum(_entry_bytes(leaf, stacks[path], cells) for path, leaf in tree_items(spec.obs))
    if sequences:
        rows = slots * (sequences * (action + 4 + 3) + 8 + 4) + 8
    elif streams:
        rows = slots * (action + ROW_NUMBERS + 1) + streams * 3 * 8
    else:
        obs, rows = 2 * obs, slots * (action + ROW_NUMBERS) + 8
    leaves = -(-slots // (WIDTH * SPAN)) * WIDTH * SPAN * 8
    choice = 2 * slots * 8 + 8 if config.priorities == "none" else leaves * (1 + (config.eviction == "priority")) + 16
    return obs + rows + choice + 4 * slots


def require_replay_room(config: Any, spec: EnvSpec) -> None:
    """Raises MemoryShort in one line where all shards together need more memory than is free, and ConfigError where the
    layout cannot work."""
    size, room = shard_bytes(config, spec) * config.replay_shards, free_memory()
    if size > room:
        raise MemoryShort(
            f"replay_capacity={config.replay_capacity} rows of {spec.id} need {size:,} bytes, {room:,} are free; lower "
            "--replay-capacity"
        )


def _stack(config: Any, path: str, leaf: ArraySpec) -> int:
    is_mask = path == ACTION_MASK
    return 1 if is_mask or not config.deduplicate else frames_of(leaf.shape, leaf.dtype, config.frame_stack)


def _entry_bytes(leaf: ArraySpec, stack: int, cells: int) -> int:
    import numpy as np

    whole = math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
    return cells * whole if stack == 1 else (cells + 1) * whole // stack + 2 * cells
