# SPDX-License-Identifier: Apache-2.0
"""Replay memories: what actors hand on is kept, and drawn again in batches. NumPy only, in the memory of the host."""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.replay.base import Memory
from shoal.replay.columns import Columns, Plain
from shoal.replay.even import Even
from shoal.replay.memory import Exponent, TransitionMemory
from shoal.replay.proportional import Proportional
from shoal.replay.rings import Rings
from shoal.trees import tree_map
from shoal.types import EnvSpec

__all__ = ["Memory", "make_memory"]


def make_memory(config: Any, spec: EnvSpec, seed: int, shard: int = 0) -> Memory:
    """The memory, or one of `replay_shards` that share streams and capacity, that a config asks for.

    Shard s of S gets the environments of every S-th actor. Draws are a function of seed and shard.
    """
    rng = np.random.default_rng(seeds.derive(seed, "replay", shard))
    streams = -(-config.all_actors // config.replay_shards) * config.envs_per_actor
    length = -(-config.replay_capacity // config.replay_shards // streams)
    slots = streams * (length + config.n_step)
    obs = tree_map(lambda leaf: Plain(slots, leaf.shape, leaf.dtype), spec.obs)
    store = Rings(Columns(spec, slots, obs), streams, length, config.n_step)
    if config.priorities == "proportional":
        choice = Proportional(slots, config.priority_exponent, rng)
        exponent = Exponent(
            config.importance_exponent, config.importance_final, config.importance_steps or config.env_steps
        )
    else:
        choice, exponent = Even(slots, rng), Exponent(0.0, 0.0, 1)
    return TransitionMemory(store, choice, streams * length, exponent)
