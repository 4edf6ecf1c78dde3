# SPDX-License-Identifier: Apache-2.0
"""The parts of a training step measured alone, each with nothing else running: environment, act, update.

Their sum, in series, is the least that an architecture with lag 0 can take; what it takes beyond that is shoal's own.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.record import summarise
from shoal import envs, seeds
from shoal.actors.rollout import Rollout
from shoal.architectures import registry
from shoal.architectures.assemble import make_parts
from shoal.architectures.base import Parts

WARM_UP_CALLS = 3
CHUNKS = 5
RECORDED_STEPS = 2_000


def parts_of(architecture: str, config: Any, env: str) -> Parts:
    """The parts that `shoal train` would wire together."""
    return make_parts(registry.load(architecture), config, envs.resolve(env), "auto")


def seconds_per_call(fn: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Seconds of a call, after warming up: median over CHUNKS of the mean, about `seconds` in all.

    `cpu_s` is what one call takes of all processors together, threads of libraries included.
    """
    for _ in range(WARM_UP_CALLS):
        fn()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds / (2 * CHUNKS):
        fn()
        calls += 1
    means, cpu_began = [], time.process_time()
    for _ in range(CHUNKS):
        began = time.perf_counter()
        for _ in range(calls):
            fn()
        means.append((time.perf_counter() - began) / calls)
    return {**summarise(means), "cpu_s": (time.process_time() - cpu_began) / (CHUNKS * calls)}


def act_alone(parts: Parts, num_envs: int, seconds: float) -> dict[str, Any]:
    """Seconds of one act for `num_envs` environments: forward pass and draw."""
    agent, params = parts.agent, first_params(parts)
    env = parts.make_env(num_envs, 0)
    env.reset(0)
    obs = np.array(env.recv().obs)
    env.close()
    noise = noise_for(parts, num_envs, 1)[0]
    bound, memory = agent.bind(params), agent.memory(num_envs)
    return seconds_per_call(lambda: agent.act(bound, obs, memory, noise), seconds)


def env_alone(parts: Parts, num_envs: int, seconds: float, actions: np.ndarray | None = None) -> dict[str, Any]:
    """Seconds of one step of `num_envs` environments together.

    Args:
      actions: [steps, num_envs], taken in turn; without, the untrained policy's.
    """
    actions = policy_actions(parts, num_envs) if actions is None else actions
    env = parts.make_env(num_envs, 0)
    env.reset(0)
    env.recv()
    rows = iter_forever(actions)

    def step() -> None:
        env.send(next(rows))
        env.recv()

    try:
        return seconds_per_call(step, seconds)
    finally:
        env.close()


def update_alone(parts: Parts, config: Any, trajectories: int, seconds: float) -> dict[str, Any]:
    """Seconds of one whole update on `trajectories` unrolls of one actor, publishing included."""
    params = first_params(parts)
    rollout = Rollout(parts.make_env(config.envs_per_actor, 0), parts.agent, seed=0, first_index=0)
    batch = [rollout.unroll(params, 0, config.unroll_length) for _ in range(trajectories)]
    rollout.close()
    state = parts.learner.init(0)

    def update() -> None:
        after, _ = parts.learner.update(state, batch)
        parts.learner.acting(after)

    return seconds_per_call(update, seconds)


def balancing_actions(parts: Parts, num_envs: int, steps: int = RECORDED_STEPS) -> np.ndarray:
    """Actions [steps, num_envs] of a controller that keeps CartPole's pole up, to be replayed from seed 0.

    Training spends nearly all its steps in long episodes; random actions would charge it for resets it never makes.
    """
    env = parts.make_env(num_envs, 0)
    env.reset(0)
    obs, actions = env.recv().obs, np.empty((steps, num_envs), np.int64)
    for t in range(steps):
        actions[t] = 3 * obs[:, 2] + obs[:, 3] + 0.1 * obs[:, 1] + 0.05 * obs[:, 0] > 0
        env.send(actions[t])
        obs = env.recv().obs
    env.close()
    return actions


def policy_actions(parts: Parts, num_envs: int, steps: int = 64) -> np.ndarray:
    """Actions [steps, num_envs, ...] that the untrained policy draws at its first observations."""
    env = parts.make_env(num_envs, 0)
    env.reset(0)
    obs = np.array(env.recv().obs)
    env.close()
    bound, memory = parts.agent.bind(first_params(parts)), parts.agent.memory(num_envs)
    return np.stack([parts.agent.act(bound, obs, memory, row)[0] for row in noise_for(parts, num_envs, steps)])


def first_params(parts: Parts) -> np.ndarray:
    """Params [P] of an untrained agent."""
    return parts.learner.acting(parts.learner.init(0))


def noise_for(parts: Parts, num_envs: int, steps: int) -> np.ndarray:
    """Noise [steps, num_envs, size] as actors draw it."""
    draw = seeds.gumbels if parts.agent.noise == "gumbel" else seeds.normals
    return draw(0, "act", np.arange(num_envs), 0, steps, parts.agent.noise_size)


def iter_forever(rows: np.ndarray):
    """The rows, again and again."""
    while True:
        yield from rows
