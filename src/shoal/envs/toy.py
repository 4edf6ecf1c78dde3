# SPDX-License-Identifier: Apache-2.0
"""Small environments that test one thing each and are made without any simulator: `toy:catch` and others."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from shoal.envs import modules
from shoal.envs.base import EnvFactory
from shoal.envs.paced import Paced
from shoal.envs.robots import Grasp, Reacher
from shoal.envs.single import single_factory
from shoal.envs.tictactoe import TicTacToe
from shoal.envs.toy_chain import KeyDoor
from shoal.envs.toy_choices import Dials, Gates, Signpost
from shoal.envs.toy_vectors import Bandit, Catch, Memory, ToyVector
from shoal.envs.wrappers.time_limit import limited_by_restart
from shoal.errors import ConfigError

PREFIX = "toy:"
VECTORS: dict[str, Callable[..., ToyVector]] = {
    "bandit": Bandit,
    "catch": Catch,
    "dials": Dials,
    "gates": Gates,
    "key_door": KeyDoor,
    "memory": Memory,
    "signpost": Signpost,
}
SINGLES: dict[str, Callable[..., Any]] = {
    "grasp": Grasp,
    "paced": Paced,
    "reacher": Reacher,
    "tictactoe": TicTacToe,
}


def names() -> list[str]:
    """Ids of all toys."""
    return sorted(PREFIX + name for name in [*VECTORS, *SINGLES])


def factory(env_id: str, kwargs: dict[str, Any]) -> EnvFactory:
    """The factory of `toy:<name>`.

    Raises:
      ConfigError: the toy, a setting or its value is unknown.
    """
    name = env_id.removeprefix(PREFIX)
    if name in SINGLES:
        modules.check_keywords(env_id, SINGLES[name], kwargs)
        return single_factory(env_id, partial(SINGLES[name], **kwargs))
    if name in VECTORS:
        modules.check_keywords(env_id, partial(VECTORS[name], 1, 0), kwargs)
        spec = VECTORS[name](1, 0, **kwargs).spec
        build = partial(VECTORS[name], **kwargs)
        return EnvFactory(env_id, spec, ToyVector.split_invariant, build, limited=limited_by_restart)
    near = difflib.get_close_matches(env_id.lower(), names(), n=1, cutoff=0.6) or names()
    raise ConfigError(f"unknown toy environment {env_id!r}; nearest: {', '.join(near)}")
