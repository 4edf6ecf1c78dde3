# SPDX-License-Identifier: Apache-2.0
"""Small environments in JAX, made here, so that fused rollouts are tested without any simulator."""

import jax
import jax.numpy as jnp

from shoal.envs.jitted.traced import TracedEnv
from shoal.types import ArraySpec, Box, Discrete, EnvSpec, MultiDiscrete

WALK = EnvSpec(
    "made:walk", {"action_mask": ArraySpec((3,), "bool"), "place": ArraySpec((2,), "float32")}, Discrete(3), 9
)
DRIFT = EnvSpec(
    "made:drift", (ArraySpec((2,), "float32"), ArraySpec((), "int32")), Box((2,), (-1.0, -2.0), (1.0, 4.0)), 6
)
DIALS = EnvSpec("made:dials", ArraySpec((2,), "float32"), MultiDiscrete((3, 2)), None)


def uniform(key, shape=()):
    return jax.random.uniform(jax.random.wrap_key_data(key, impl="threefry2x32"), shape)


def walk(limit=9):
    """Steps of random size left or right, or none, to a wall at 3; a step of the same kind thrice is not legal."""

    def obs(state):
        place, age, last, times = state
        mask = jnp.ones(3, bool).at[last].set(times < 2)
        return {"action_mask": mask, "place": jnp.stack([place, age / limit]).astype(jnp.float32)}

    def begin(key):
        state = uniform(key) - 0.5, jnp.int32(0), jnp.int32(0), jnp.int32(0)
        return state, obs(state)

    def step(key, state, action):
        place, age, last, times = state
        place = place + (action - 1) * (0.5 + uniform(key))
        times = jnp.where(action == last, times + 1, 1)
        state = place, age + 1, action, times
        at_wall = jnp.abs(place) > 3
        return state, obs(state), place, at_wall, (age + 1 >= limit) & ~at_wall

    return TracedEnv(spec=WALK, open=begin, step=step)


def drift(fault_at=None, faulty="obs"):
    """Adds up its actions; with `fault_at` it gives a NaN in the row of that age."""

    def obs(state):
        return state[0], state[1]

    def begin(key):
        state = uniform(key, (2,)), jnp.int32(0)
        return state, obs(state)

    def step(key, state, action):
        place, age = state[0] + action, state[1] + 1
        nan = jnp.where(age == (fault_at or -1), jnp.nan, 0.0)
        seen = place + nan if faulty == "obs" else place
        reward = jnp.sum(action) + nan if faulty == "reward" else jnp.sum(action)
        return (place, age), obs((seen, age)), reward, jnp.bool_(False), age >= 6

    return TracedEnv(spec=DRIFT, open=begin, step=step)


def dials():
    """Two choices at once; the first says how far the second counts. Ends by chance."""

    def begin(key):
        state = uniform(key, (2,))
        return state, state

    def step(key, state, action):
        luck = uniform(key, (2,))
        reward = action[0] * (2.0 * action[1] - 1)
        return luck, luck, reward, luck[0] < 0.2, jnp.bool_(False)

    return TracedEnv(spec=DIALS, open=begin, step=step)
