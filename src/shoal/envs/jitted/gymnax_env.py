# SPDX-License-Identifier: Apache-2.0
"""gymnax's environments in JAX: `gymnax:CartPole-v1`, `gymnax:Breakout-MinAtar`, ...

Only gymnax's `step_env` and `reset_env` are used: its `step` resets within the step that ends an episode, and the final
observation with it. In gymnax 1.0 `step_env` says whether the task ended; the time limit is a question of its own,
`is_truncated`. Lange 2022, "gymnax: A JAX-based Reinforcement Learning Environment Library".
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.util
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from shoal.envs.base import EnvFactory, describe_error, one_line
from shoal.envs.jitted.host import JittedVector
from shoal.envs.jitted.traced import TracedEnv
from shoal.envs.modules import accepted_names, refuse_keywords
from shoal.envs.spaces import spec_of_spaces
from shoal.envs.wrappers.time_limit import shorter
from shoal.errors import ConfigError
from shoal.trees import tree_items, tree_map
from shoal.types import Array, Box, EnvSpec, PyTree

PREFIX = "gymnax:"


def factory(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    """The factory of `gymnax:<id>`. Settings are those of the constructor and the fields of gymnax's `EnvParams`.

    Raises:
      ConfigError: the package is missing, the id or a setting is unknown, or a space is not supported.
    """
    try:
        settings = json.dumps(kwargs, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{env_id}: env_kwargs {one_line(kwargs)}: {error}; give numbers, text and lists") from error
    return _factory(env_id, settings, None)


def _factory(env_id: str, settings: str, limit: int | None) -> EnvFactory:
    return EnvFactory(
        env_id,
        traced(env_id, settings, limit).spec,
        JittedVector.split_invariant,
        build=partial(_build, env_id, settings, limit),
        limited=partial(_limited, env_id, settings),
        traced=True,
    )


def _build(env_id: str, settings: str, limit: int | None, num_envs: int, first_index: int) -> JittedVector:
    return JittedVector(traced(env_id, settings, limit), num_envs, first_index)


def _limited(env_id: str, settings: str, bare: EnvFactory, limit: int) -> EnvFactory:
    return _factory(env_id, settings, shorter(limit, bare.spec.max_episode_steps))


@functools.cache
def traced(env_id: str, settings: str, limit: int | None) -> TracedEnv:
    """The environment as pure functions: one record for each id, settings (JSON) and time limit.

    Raises: ConfigError as `factory` does.
    """
    env, params = _made(env_id, json.loads(settings))
    try:
        obs_space, action_space = (
            _gymnasium_space(each) for each in (env.observation_space(params), env.action_space(params))
        )
    except Exception as error:
        raise ConfigError(f"{env_id}: its spaces are not supported ({describe_error(error)})") from error
    spec = spec_of_spaces(env_id, obs_space, action_space, shorter(int(params.max_steps_in_episode), limit))
    try:
        found = _pure(spec, env, params, obs_space, limit)
        _check(found)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{env_id}: cannot be traced: {describe_error(error)}; check env_kwargs") from error
    return found


def _made(env_id: str, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """gymnax's environment and its params, with settings handed to whichever of them takes them."""
    gymnax = load_gymnax(env_id)
    task = env_id.removeprefix(PREFIX)
    if task not in gymnax.registered_envs:
        raise ConfigError(f"unknown environment {env_id!r}; {_nearest(task, gymnax.registered_envs)}")
    try:
        env, params = gymnax.make(task)
        taken = accepted_names(type(env))
        known = {*taken, *(field.name for field in dataclasses.fields(params))}
        if set(kwargs) - known:
            raise refuse_keywords(env_id, kwargs, sorted(known))
        own = {name: value for name, value in kwargs.items() if name in taken}
        if own:
            env, params = gymnax.make(task, **own)
        return env, dataclasses.replace(params, **{name: kwargs[name] for name in kwargs if name not in own})
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{env_id}: cannot be made: {describe_error(error)}; check env_kwargs") from error


def _pure(spec: EnvSpec, env: Any, params: Any, obs_space: Any, limit: int | None) -> TracedEnv:
    """gymnax's functions in shoal's form."""
    encode = partial(_encoded, obs_space, spec.obs)
    key_like, action_like = jax.ShapeDtypeStruct((2,), np.uint32), _action_like(spec)
    outcome = jax.eval_shape(
        lambda key, action: env.step_env(_key(key), env.reset_env(_key(key), params)[1], action, params),
        key_like,
        action_like,
    )

    def of_one_form(state: PyTree) -> PyTree:
        """Episodes begin with Python's numbers here and there; a loop needs the same dtypes before and after."""
        return jax.tree.map(lambda leaf, like: jnp.asarray(leaf, like.dtype), state, outcome[1])

    def begin(key: Array) -> tuple[PyTree, PyTree]:
        obs, state = env.reset_env(_key(key), params)
        return of_one_form(state), encode(obs)

    def step(key: Array, state: PyTree, action: Array) -> tuple[PyTree, PyTree, Array, Array, Array]:
        obs, state, reward, terminated, _ = env.step_env(_key(key), state, action, params)
        over = env.is_truncated(state, params)
        if limit is not None:
            over = over | (state.time >= limit)
        terminated = jnp.asarray(terminated, bool)
        return of_one_form(state), encode(obs), jnp.asarray(reward, jnp.float32), terminated, over & ~terminated

    return TracedEnv(spec=spec, open=begin, step=step)


def _check(env: TracedEnv) -> None:
    """Raises ConfigError where observations or rewards are not what the spec says."""
    key, action = jax.ShapeDtypeStruct((2,), np.uint32), _action_like(env.spec)
    state, first = jax.eval_shape(env.open, key)
    _, obs, *numbers = jax.eval_shape(env.step, key, state, action)
    wanted = [(path, leaf.shape) for path, leaf in tree_items(env.spec.obs)]
    for found in (first, obs):
        shapes = [(path, leaf.shape) for path, leaf in tree_items(found)]
        if shapes != wanted:
            raise ConfigError(f"{env.spec.id}: gives observations {shapes}, declares {wanted}; repair the environment")
    if any(number.shape for number in numbers):
        raise ConfigError(f"{env.spec.id}: reward or an end is an array; repair the environment")


def _action_like(spec: EnvSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(spec.action.shape, np.float32 if isinstance(spec.action, Box) else np.int32)


def _key(words: Array) -> Array:
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _gymnasium_space(space: Any) -> Any:
    return importlib.import_module("gymnax.environments.spaces").gymnax_space_to_gym_space(space)


def _encoded(space: Any, spec: PyTree, obs: PyTree) -> PyTree:
    """An observation of a Gymnasium space in the form of `spec`, as `envs.encoding` does it in NumPy."""
    if isinstance(space, spaces.Dict):
        return {name: _encoded(space[name], spec[name], obs[name]) for name in spec}
    if isinstance(space, spaces.Tuple):
        return tuple(_encoded(part, spec[i], obs[i]) for i, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return jax.nn.one_hot(obs - int(space.start), int(space.n), dtype=spec.dtype)
    return tree_map(lambda leaf, like: jnp.asarray(leaf, like.dtype), obs, spec)


def load_gymnax(env_id: str) -> Any:
    """The package, which is an extra; loading it starts JAX.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("gymnax")
    except ImportError as error:
        missing = importlib.util.find_spec("gymnax") is None
        reason = "gymnax is not installed" if missing else f"gymnax cannot be loaded ({one_line(error)})"
        raise ConfigError(f"{env_id}: {reason}; pip install 'shoal[gymnax]'") from error


def _nearest(task: str, ids: list[str]) -> str:
    """The ids most like the wanted one, whatever their case; a game's name alone is enough."""
    plain = {each.lower(): PREFIX + each for each in ids}
    bare = {each.rpartition("-")[0].lower(): PREFIX + each for each in ids}
    near = difflib.get_close_matches(task.lower(), [*plain, *bare], n=6, cutoff=0.5)
    names = list(dict.fromkeys((plain | bare)[each] for each in near))[:3]
    return f"nearest: {', '.join(names)}" if names else "see: shoal list envs"
