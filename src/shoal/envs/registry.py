# SPDX-License-Identifier: Apache-2.0
"""From what a user names to a factory: known prefix, then `module:Attribute`, then Gymnasium, or any callable."""

import difflib
import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from shoal.envs import modules
from shoal.envs.base import EnvFactory
from shoal.errors import ConfigError

PREFIXES = {
    "ale": "shoal.envs.ale_env",
    "envpool": "shoal.envs.envpool_env",
    "gymnax": "shoal.envs.jitted.gymnax_env",
    "toy": "shoal.envs.toy",
}
"""modules by prefix, each with a `factory(env_id, kwargs)`; loaded when an id needs them"""
LATER = ("pgx",)
VERSIONED = re.compile(r"-v\d+$")


def resolve(env: str | Callable[..., Any], env_kwargs: dict[str, Any] | None = None) -> EnvFactory:
    """The factory of an environment id, class or function.

    Args:
      env: an id, or a callable that returns one environment with Gymnasium's API.
      env_kwargs: settings handed to its constructor.

    Raises:
      ConfigError: unknown id (with the nearest valid ones), unknown setting, unsupported space, missing package.
      EnvironmentFault: the environment raised while it was made.
    """
    kwargs = {} if env_kwargs is None else env_kwargs
    if not isinstance(kwargs, dict) or not all(isinstance(name, str) for name in kwargs):
        raise ConfigError(f'env_kwargs is {kwargs!r}; give names with values, for example {{"render_mode": null}}')
    kwargs = dict(kwargs)
    if not isinstance(env, str):
        name = modules.importable_name(env)
        return replace(_from_callable(env, kwargs), origin=name and (name, kwargs))
    return replace(_from_id(env, kwargs), origin=(env, kwargs))


def _from_id(env: str, kwargs: dict[str, Any]) -> EnvFactory:
    prefix = env.partition(":")[0]
    if prefix in LATER:
        reason = f"{prefix} environments are not available in this version"
        raise ConfigError(f"{env!r}: {reason}; use ale:, envpool:, gymnax:, toy: or a Gymnasium id")
    if ":" in env and prefix in PREFIXES:
        return importlib.import_module(PREFIXES[prefix]).factory(env, kwargs)
    if ":" in env:
        return _from_module(env, kwargs)
    return _from_gymnasium(env, kwargs)


def list_envs() -> dict[str, list[str]]:
    """Ids by source, newest version of each; some need an optional package, which resolving them names."""
    from shoal.envs import envpool_env
    from shoal.envs.jitted import ids

    return {
        **_usual(),
        **envpool_env.listed(),
        **ids.listed(),
        "your own": ["package.module:EnvClass", "package.module:Id-v0"],
    }


def _usual() -> dict[str, list[str]]:
    """Ids of the packages that are always there."""
    from shoal.envs import ale_env, gymnasium_env, toy

    return {
        "Gymnasium": gymnasium_env.newest_ids(),
        "ale-py": [ale_env.PREFIX + game for game in ale_env.games()],
        "toy": toy.names(),
    }


def load_attribute(env_id: str) -> Any:
    """The object `module:Attribute` names, or None if the module has no such attribute."""
    name, _, path = env_id.partition(":")
    return modules.find_attribute(modules.import_user_module(name, env_id), path)


def construct_attribute(env_id: str, kwargs: dict[str, Any], **settings: Any) -> Any:
    """One environment from `module:Attribute`. Imports by name, so it works in any process."""
    return load_attribute(env_id)(**(kwargs | settings))


def _from_module(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    name, _, path = env_id.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or not path:
        raise ConfigError(
            f"{env_id!r} is no environment id; write module:EnvClass, ale:<game>, toy:<name> or a Gymnasium id"
        )
    attribute = load_attribute(env_id)
    if attribute is None and VERSIONED.search(path):
        return _from_registered(env_id, path, kwargs)
    if attribute is None:
        near = modules.nearest_attributes(modules.import_user_module(name, env_id), path)
        hint = f"nearest: {', '.join(f'{name}:{found}' for found in near)}" if near else "it holds no environment class"
        raise ConfigError(f"{env_id}: module {name} has no {path}; {hint}")
    if not callable(attribute):
        raise ConfigError(f"{env_id}: is a {type(attribute).__name__} object; name a class or function that makes one")
    modules.check_keywords(env_id, attribute, kwargs)
    return _singles(env_id, partial(construct_attribute, env_id, kwargs))


def _from_registered(env_id: str, registered: str, kwargs: dict[str, Any]) -> EnvFactory:
    from shoal.envs import gymnasium_env

    if registered not in gymnasium_env.gymnasium.registry:
        module = env_id.partition(":")[0]
        raise ConfigError(f"{env_id}: importing {module} registered no {registered}; {_nearest(registered)}")
    return gymnasium_env.factory(env_id, kwargs)


def _from_gymnasium(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    from shoal.envs import gymnasium_env

    if not gymnasium_env.is_registered(env_id):
        raise ConfigError(f"unknown environment {env_id!r}; {_nearest(env_id)}")
    return gymnasium_env.factory(env_id, kwargs)


def _from_callable(env: Any, kwargs: dict[str, Any]) -> EnvFactory:
    if not callable(env):
        what = f"a {type(env).__name__} object is not callable"
        raise ConfigError(f"env: {what}; give an id, or a class or function that returns a new environment")
    name = f"{getattr(env, '__module__', '?')}:{getattr(env, '__qualname__', type(env).__name__)}"
    modules.check_keywords(name, env, kwargs)
    return _singles(name, partial(env, **kwargs))


def _singles(name: str, construct: Callable[[], Any]) -> EnvFactory:
    from shoal.envs.single import single_factory

    return single_factory(name, construct)


def _nearest(wanted: str) -> str:
    """The ids most like the wanted one: by letters, and games whose name is a part of it."""
    ids = [name for names in _usual().values() for name in names]
    plain = {name: _letters(name) for name in ids}
    target = _letters(wanted)
    scores = {name: difflib.SequenceMatcher(None, target, text).ratio() for name, text in plain.items()}
    for name, text in plain.items():
        if len(text) > 3 and text in target:
            scores[name] = max(scores[name], 0.9)
    best = sorted((name for name in ids if scores[name] >= 0.6), key=lambda name: -scores[name])[:3]
    return f"nearest: {', '.join(best)}" if best else "see: shoal list envs"


def _letters(env_id: str) -> str:
    """An id reduced to what people get wrong least: no prefix, version or punctuation, lower case."""
    bare = VERSIONED.sub("", re.split(r"[:/]", env_id)[-1])
    return re.sub(r"[^a-z0-9]", "", bare.lower())
