# SPDX-License-Identifier: Apache-2.0
"""Adapters under one set of actions, recorded; and the environments that the contract is checked on."""

import functools
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shoal import envs, seeds
from shoal.envs.base import EnvFactory, VectorEnv
from shoal.envs.masks import choose_legal, mask_size
from shoal.envs.wrappers import wrapped
from shoal.trees import tree_items, tree_map
from shoal.types import ACTION_MASK, Box, Steps

BOTH = frozenset({"terminated", "truncated"})
TERMINATED = frozenset({"terminated"})
TRUNCATED = frozenset({"truncated"})
FIELDS = ("reward", "terminated", "truncated", "valid")


@dataclass(frozen=True, eq=False)
class Case:
    """One environment on one adapter, and what is known about it."""

    env: Any
    kwargs: dict[str, Any] = field(default_factory=dict)
    steps: int = 120
    ends: frozenset[str] = TERMINATED
    takes_slots: bool = True
    obs_depend_on_seed: bool = True
    around: dict[str, Any] = field(default_factory=dict)
    """wrappers, as `wrapped` takes them"""

    @property
    def name(self) -> str:
        name = self.env if isinstance(self.env, str) else f"callable {self.env.__name__}"
        return f"{name} {' '.join(self.around)}".strip()


@dataclass
class Recording:
    """Rows [steps + 1, N, ...] of one adapter; row 0 is the initial one."""

    obs: Any
    """a tree"""
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        return self.terminated | self.truncated


def make_both_ends(limit: int = 8):
    """A random walk that terminates at a wall and is truncated by a limit."""
    from envs.own import Walk

    return Walk(limit)


SMALL = {"img_height": 20, "img_width": 30, "grayscale": False, "continuous": True, "episodic_life": True}
SMALL["max_num_frames_per_episode"] = 90

CASES = [
    Case("CartPole-v1", {"max_episode_steps": 20}, ends=BOTH, takes_slots=False),
    Case("Pendulum-v1", {"max_episode_steps": 30}, ends=TRUNCATED),
    Case("FrozenLake-v1", ends=TERMINATED),
    Case("ale:pong", {"max_num_frames_per_episode": 440}, 120, ends=TRUNCATED, takes_slots=False),
    Case("ale:breakout", SMALL, 60, BOTH, takes_slots=False),
    Case("toy:bandit", obs_depend_on_seed=False),
    Case("toy:catch"),
    Case("toy:memory", {"length": 4}),
    Case("toy:key_door", {"length": 3}),
    Case("toy:signpost"),
    Case("toy:dials"),
    Case("toy:dials", {"sizes": [7], "turns": 3}),
    Case("toy:gates"),
    Case("toy:tictactoe"),
    Case("toy:paced", {"step_s": 0.0, "episode_steps": 20}, ends=TRUNCATED),
    Case("toy:reacher", {"step_s": 0.0, "episode_steps": 20}, ends=TRUNCATED),
    Case("toy:grasp", {"step_s": 0.0}),
    Case("envs.own:Walk", {"limit": 8}, ends=BOTH),
    Case("envs.own:Trees", ends=TRUNCATED),
    Case("envs.own:Walk-v3", {"limit": 8}, ends=BOTH),
    Case("gymnasium.envs.classic_control.mountain_car:MountainCarEnv", steps=3, ends=frozenset()),
    Case(make_both_ends, ends=BOTH),
    Case("toy:gates", ends=TRUNCATED, around={"frame_stack": 3, "time_limit": 5}),
    Case("envs.own:Trees", ends=TRUNCATED, around={"frame_stack": 2, "time_limit": 4}),
    Case("envs.own:Walk", {"limit": 20}, ends=BOTH, around={"time_limit": 6}),
    Case("CartPole-v1", ends=BOTH, takes_slots=False, around={"frame_stack": 4, "time_limit": 20}),
    Case("envs.own:Walk", {"limit": 8, "tells": True}, ends=BOTH, around={"mask_from_info": True}),
]
if importlib.util.find_spec("envpool"):
    CASES += [
        Case("envpool:CartPole-v1", {"max_episode_steps": 20}, ends=BOTH, takes_slots=False),
        Case("envpool:CartPole-v1", {"max_episode_steps": 20, "batch_size": 1}, ends=BOTH),
        Case("envpool:Pendulum-v1", {"max_episode_steps": 30, "num_threads": 1}, ends=TRUNCATED, takes_slots=False),
        Case("envpool:FrozenLake-v1", {"batch_size": 1}),
        Case("envpool:Pong-v5", {"max_episode_steps": 110}, ends=TRUNCATED, takes_slots=False),
        Case("envpool:Game2048-v1", steps=200, takes_slots=False),
        Case("envpool:Hopper-v5", {"max_episode_steps": 20}, ends=BOTH, takes_slots=False),
    ]
if importlib.util.find_spec("gymnax"):
    CASES.append(Case("gymnax:CartPole-v1", {"max_steps_in_episode": 20}, ends=BOTH, takes_slots=False))
if importlib.util.find_spec("mujoco"):
    CASES.append(Case("Hopper-v5", {"max_episode_steps": 20}, ends=BOTH))


def actions(env: VectorEnv, step: int, first_index: int, obs: Any, seed: int = 99) -> np.ndarray:
    """Random legal actions as a function of environment index, step and what `obs` says is legal."""
    indices = first_index + np.arange(env.num_envs)
    space = env.spec.action
    if isinstance(space, Box):
        u = seeds.uniforms(seed, "act", indices, step, 1, int(np.prod(space.shape)))[0]
        return space.to_env(2 * u.reshape(env.num_envs, *space.shape) - 1)
    preference = seeds.uniforms(seed, "act", indices, step, 1, mask_size(space))[0]
    return choose_legal(obs[ACTION_MASK] if env.spec.masked else np.True_, preference, space)


@functools.cache
def factory_of(case: Case) -> EnvFactory:
    """A case's factory, resolved once."""
    return wrapped(envs.resolve(case.env, case.kwargs), **case.around)


def record_from(env: VectorEnv, seed: int, steps: int, first_index: int = 0) -> Recording:
    """Reset an adapter and step it."""
    env.reset(seed)
    rows: list[Steps] = [tree_map(np.copy, env.recv())]  # theirs until the next recv
    for step in range(steps):
        env.send(actions(env, step, first_index, rows[-1].obs))
        rows.append(tree_map(np.copy, env.recv()))
    stacked = [np.stack([getattr(row, name) for row in rows]) for name in FIELDS]
    return Recording(tree_map(lambda *leaves: np.stack(leaves), *(row.obs for row in rows)), *stacked)


def record(case: Case, num_envs: int = 4, seed: int = 7, first_index: int = 0) -> Recording:
    """A fresh adapter's rows."""
    env = factory_of(case).make(num_envs, first_index)
    try:
        return record_from(env, seed, case.steps, first_index)
    finally:
        env.close()


def same(one: Any, other: Any) -> bool:
    """Whether two trees of arrays hold the same bits."""
    pairs = zip(tree_items(one), tree_items(other), strict=True)
    return all(path == path_ and np.array_equal(leaf, leaf_) for (path, leaf), (path_, leaf_) in pairs)


def assert_same(one: Recording, other: Recording) -> None:
    """Two recordings hold the same bits."""
    for name, values in vars(one).items():
        assert same(values, getattr(other, name)), name


def joined(parts: list[Recording]) -> Recording:
    """Recordings of adapters side by side, as one of all their environments."""
    fields = [[getattr(part, name) for part in parts] for name in ("obs", *FIELDS)]
    return Recording(*(tree_map(lambda *leaves: np.concatenate(leaves, 1), *field) for field in fields))
