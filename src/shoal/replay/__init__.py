# SPDX-License-Identifier: Apache-2.0
"""Replay memories: what actors hand on is kept, and drawn again in batches. NumPy only, in the memory of the host."""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.replay.base import Choice, Memory, Store
from shoal.replay.columns import Column, Plain, RowColumns
from shoal.replay.even import Even
from shoal.replay.memory import Exponent, ReplayMemory
from shoal.replay.pairs import Pairs
from shoal.replay.places import Places
from shoal.replay.proportional import Proportional, ProportionalEviction
from shoal.replay.rings import Rings
from shoal.replay.sequenced import Sequenced
from shoal.replay.sizing import Layout, layout, require_replay_room, shard_bytes
from shoal.replay.stacks import Stacked
from shoal.trees import tree_items, tree_map
from shoal.types import EnvSpec, PyTree

__all__ = ["Memory", "make_memory", "require_replay_room", "shard_bytes"]


def make_memory(config: Any, spec: EnvSpec, seed: int, shard: int = 0) -> Memory:
    """The memory, or one of `replay_shards` that share actors and capacity, that a config asks for: of sequences where
    it has a sequence_length, else of transitions. Draws are a function of seed and shard.

    Args:
      config: replay_capacity, replay_shards, all_actors, envs_per_actor, unroll_length, env_steps, n_step,
        sequence_length, burn_in, priorities, priority_exponent, importance_exponent, importance_final,
        importance_steps, eviction, deduplicate and frame_stack; see `architectures/replayed.py`.

    Raises ConfigError where the layout cannot work, see `sizing.layout`.
    """
    rng = np.random.default_rng(seeds.derive(seed, "replay", shard))
    plan = layout(config, spec)
    choice = _choice(config, plan.streams * plan.ring or plan.items, rng)
    even = config.priorities == "none"
    steps = config.importance_steps or config.env_steps
    exponent = Exponent(0.0, 0.0, 1) if even else Exponent(config.importance_exponent, config.importance_final, steps)
    return ReplayMemory(_store(config, spec, plan, choice), choice, rng, plan.items, exponent)


def _choice(config: Any, slots: int, rng: np.random.Generator) -> Choice:
    if config.priorities == "none":
        return Even(slots, rng)
    made = ProportionalEviction if config.eviction == "priority" else Proportional
    return made(slots, config.priority_exponent, rng)


def _store(config: Any, spec: EnvSpec, plan: Layout, choice: Choice) -> Store:
    victims = choice.victims if isinstance(choice, ProportionalEviction) else None
    if config.sequence_length:
        obs = _columns(spec, plan, plan.items * plan.ring)
        places = Places(plan.items, victims)
        return Sequenced(spec, obs, plan.ring, config.sequence_length, config.burn_in, places)
    slots = plan.streams * plan.ring or plan.items
    rows, obs = RowColumns(spec, slots), _columns(spec, plan, slots)
    if plan.streams:
        return Rings(obs, rows, plan.streams, plan.ring, config.n_step)
    return Pairs(obs, _columns(spec, plan, slots), rows, Places(slots, victims))


def _columns(spec: EnvSpec, plan: Layout, slots: int) -> PyTree:
    """A column for each entry of observations."""
    paths = iter(tree_items(spec.obs))  # in the order in which tree_map goes

    def column(_: Any) -> Column:
        path, leaf = next(paths)
        stack = plan.stacks[path]
        if stack == 1:
            return Plain(slots, leaf.shape, leaf.dtype)
        return Stacked(slots, plan.ring, leaf.shape, leaf.dtype, stack)

    return tree_map(column, spec.obs)
