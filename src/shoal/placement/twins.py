# SPDX-License-Identifier: Apache-2.0
"""Parts that do nothing, in the right shapes: an architecture runs on them in simulated time, or just to show its flow.

Arrays are a zero broadcast to shape, so that they have the real number of bytes and cost nothing to make.
"""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from shoal.agents.base import Acting, Judged
from shoal.agents.lessons import CriticLesson, PolicyLesson, Share
from shoal.architectures.base import Parts
from shoal.engines import nbytes, note, phase
from shoal.envs.base import VectorEnv
from shoal.learners.base import Learner, LearnerState, env_steps_in
from shoal.placement.episodes import USUAL, Course, Lengths
from shoal.trees import tree_map
from shoal.types import Array, Box, EnvSpec, Steps, Trajectory

VERSIONS = 1024
"""of params, at most, whose unrolls are kept to be handed out again"""
LOSSES = {PolicyLesson: ("loss/policy", "loss/entropy"), CriticLesson: ("loss/value",)}
"""names of what the sums of a share belong to"""


def zeros(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """A read-only array of zeros that takes one element of memory and reports the bytes of all."""
    return np.broadcast_to(np.zeros((), dtype), shape)


class TwinEnv:
    """A VectorEnv whose episodes end by schedule."""

    split_invariant = True
    steps_apart = False

    def __init__(self, spec: EnvSpec, num_envs: int, first_index: int, lengths: Lengths = USUAL):
        self.spec, self.num_envs = spec, num_envs
        self._course, self._slots = Course(lengths, first_index, num_envs), np.arange(num_envs)
        self._step = 0

    def reset(self, seed: int) -> None:
        """Start anew; the seed changes nothing."""
        self._step = 0
        self._course.restart()

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        """Take one step of all environments."""
        self._step += 1

    def recv(self, min_ready: int | None = None) -> Steps:
        """Zero observations; ends and reset rows follow the schedule."""
        return twin_steps(self.spec, self._slots, np.full(self.num_envs, self._step), self._course)

    def close(self) -> None:
        """Nothing is held."""


def twin_steps(spec: EnvSpec, slots: Array, taken: Array, course: Course) -> Steps:
    """Rows of environments after so many steps."""
    size, (terminated, valid) = len(slots), course.rows(slots, taken)
    return Steps(
        slots=slots,
        obs=tree_map(lambda leaf: zeros((size, *leaf.shape), leaf.dtype), spec.obs),
        reward=np.zeros(size, np.float32),
        terminated=terminated,
        truncated=np.zeros(size, bool),
        valid=valid,
    )


class TwinSampler:
    """Unrolls in one piece of work, the phase `rollout`, whatever the number of steps: for thousands of actors.

    Args:
      made: (length, num_envs, version) -> a trajectory.
      twin: the agent that does nothing, and need not be asked.
      agent: who acts; one that is watched (`actors.witness`) is asked in every step, since it has to tell later.
    """

    def __init__(
        self, made: Callable[[int, int, int], Trajectory], twin: Acting, _index: int, config: Any, agent: Acting
    ):
        self._made, self._num_envs = made, config.envs_per_actor
        self._agent = None if agent is twin else agent
        self._noise = np.zeros((config.envs_per_actor, twin.noise_size), np.float32)

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """Zeros, all of them valid; the same object each time for all actors with params of that version."""
        phase("rollout", int, 0)
        if self._agent is not None:
            bound = self._agent.bind(params)
            for _ in range(length):
                self._agent.act(bound, None, (), self._noise)
        note(env_steps_generated=length * self._num_envs)
        return self._made(length, self._num_envs, version)

    def close(self) -> None:
        """Nothing is held."""


class Weighed(Trajectory):
    """A trajectory that knows its bytes, so that nobody counts them again for each of thousands of actors."""

    nbytes: int


def twin_unrolls(spec: EnvSpec) -> Callable[[int, int, int], Trajectory]:
    """(length, num_envs, version) -> a trajectory, made once for each version: unrolls of twins differ in nothing else.

    Check: two of one version are the same object, two of different versions share all arrays but `version`.
    """
    form = lru_cache(1)(partial(twin_trajectory, spec))

    @lru_cache(VERSIONS)
    def made(length: int, num_envs: int, version: int) -> Trajectory:
        found = Weighed(*form(length, num_envs)._replace(version=np.full(num_envs, version, np.int64)))
        found.nbytes = nbytes(tuple(found))
        return found

    return made


def twin_trajectory(spec: EnvSpec, length: int, num_envs: int) -> Trajectory:
    """A trajectory [length, num_envs] of the right shapes and bytes that takes no memory; no episode ends in it."""
    rows = (length, num_envs)
    is_box = isinstance(spec.action, Box)
    return Trajectory(
        obs=tree_map(lambda leaf: zeros((length + 1, num_envs, *leaf.shape), leaf.dtype), spec.obs),
        action=zeros((*rows, *spec.action.shape), np.float32 if is_box else np.int32),
        reward=zeros(rows),
        terminated=zeros(rows, bool),
        truncated=zeros(rows, bool),
        valid=np.ones(rows, bool),
        log_prob=zeros(rows),
        memory=(),
        version=np.zeros(num_envs, np.int64),
        episode_return=np.full(rows, np.nan, np.float32),
        episode_length=zeros(rows, np.int32),
        discounted_return=(),
    )


def twin_agent(spec: EnvSpec) -> Acting:
    """An agent that always takes action 0 and learns nothing."""
    is_box = isinstance(spec.action, Box)
    head_size, shape = spec.action.head_size, spec.action.shape

    def act(bound, obs, memory, noise):
        action = np.zeros((len(noise), *shape), np.float32 if is_box else np.int64)
        return action, np.zeros((len(noise), head_size), np.float32), memory

    return Acting(
        memory=lambda num_envs: (),
        bind=lambda params: params,
        act=act,
        log_prob=lambda bound, head, action: np.zeros(head.shape[:2], np.float32),
        mode=lambda head: np.zeros((len(head), *shape), np.float32 if is_box else np.int64),
        noise="normal" if is_box else "gumbel",
        noise_size=head_size,
        head_size=head_size,
        judge=lambda bound, obs, action, head: Judged(*np.zeros((2, *head.shape[:2]), np.float32)),
    )


def steps_in(batch: list[Trajectory]) -> int:
    """As `env_steps_in`, looking once at each object: unrolls of thousands of twins are a few of them."""
    times = Counter(map(id, batch))
    return sum(times[key] * env_steps_in([item]) for key, item in {id(item): item for item in batch}.items())


def twin_learner(params_size: int, updates_per_batch: int = 1, devices: int = 1, processes: int = 1) -> Learner:
    """A learner that counts and never changes its params; one of so many processes, which all get as many steps."""

    def update(state: LearnerState, batch: list) -> tuple[LearnerState, dict[str, float]]:
        counted = state._replace(
            updates=state.updates + updates_per_batch,
            env_steps=state.env_steps + processes * steps_in(batch),
            version=state.version + 1,
        )
        return counted, {}

    def share(params: Array, lesson: Any) -> Share:
        losses = dict.fromkeys(LOSSES[type(lesson)], 0.0)
        return Share(zeros((params_size,)), env_steps_in([lesson.trajectory]), 0.0, losses)

    def pool(state: LearnerState, shares: list[Share], part: str = "policy") -> tuple[LearnerState, dict[str, float]]:
        rows = sum(one.rows for one in shares) if part == "policy" else 0
        steps = state.env_steps + rows
        return state._replace(updates=state.updates + 1, env_steps=steps, version=state.version + 1), {}

    def learn(state: LearnerState, batch: Any, env_steps: int) -> tuple[LearnerState, Array, dict[str, float]]:
        errors = zeros(batch.weight.shape)
        return state._replace(updates=state.updates + len(errors), env_steps=env_steps), errors, {}

    return Learner(
        init=lambda seed: LearnerState(zeros((params_size,)), (), 0, 0, 0),
        update=update,
        acting=lambda state: zeros((params_size,)),
        gradient=lambda params, batch: (zeros((params_size,)), {}),
        gradients=lambda params, batch, draw: iter([lambda _: (zeros((params_size,)), {})] * updates_per_batch),
        share=share,
        pool=pool,
        learn=learn,
        replay_gradient=lambda params, target, batch, number: (
            zeros((params_size,)),
            zeros(batch.weight.shape),
            {"loss/total": 0.0},
        ),
        devices=devices,
    )


def twin_parts(
    spec: EnvSpec,
    params_size: int,
    updates_per_batch: int = 1,
    devices: int = 1,
    *,
    lengths: Lengths = USUAL,
    whole_unrolls: bool = False,
    make_env: Callable[[int, int], VectorEnv] | None = None,
) -> Parts:
    """Parts for an environment of this form and params of this size. Needs no JAX.

    Args:
      lengths: of episodes.
      whole_unrolls: actors unroll in one piece of work rather than step by step; then no episode ends.
      make_env: (num_envs, first_index) -> other environments than those that step beside their actor.

    Check: the ledger of a run on twins has the rows and bytes of a run on real parts.
    """
    agent = twin_agent(spec)
    return Parts(
        spec=spec,
        make_env=make_env or (lambda num_envs, first_index: TwinEnv(spec, num_envs, first_index, lengths)),
        agent=agent,
        learner=twin_learner(params_size, updates_per_batch, devices),
        seed=0,
        sampler=partial(TwinSampler, twin_unrolls(spec), agent) if whole_unrolls else None,
    )
