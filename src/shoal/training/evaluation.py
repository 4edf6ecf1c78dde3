# SPDX-License-Identifier: Apache-2.0
"""Play episodes with a trained policy, on seeds that training never used."""

from typing import Any

import numpy as np

from shoal import seeds
from shoal.agents.host_policy import reset_memory
from shoal.errors import ConfigError, EnvironmentFault
from shoal.training.result import Result
from shoal.trees import tree_map

PARALLEL_ENVS = 10
LONGEST_EPISODE = 100_000
"""agent steps after which an episode is taken to have no end: a greedy policy can walk in circles for ever"""


def evaluate_policy(result: Result, episodes: int = 100, deterministic: bool = True, seed: int = 0) -> dict[str, Any]:
    """Raw returns of `episodes` episodes: {"episodes", "return_mean", "return_std", "return_min", "return_max",
    "length_mean", "returns"}.

    Each of the environments plays its own share: taking the first episodes to finish would favour short ones.
    """
    if episodes < 1:
        raise ConfigError(f"episodes={episodes} plays nothing; ask for 1 or more")
    num_envs = min(episodes, PARALLEL_ENVS)
    share = [episodes // num_envs + (i < episodes % num_envs) for i in range(num_envs)]
    env = result.factory.make(num_envs)
    try:
        returns, lengths = _play(result, env, share, deterministic, seeds.derive(seed, "evaluate"))
    finally:
        env.close()
    return {
        "episodes": episodes,
        "deterministic": deterministic,
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "return_min": float(np.min(returns)),
        "return_max": float(np.max(returns)),
        "length_mean": float(np.mean(lengths)),
        "returns": returns,
    }


def _play(result: Result, env: Any, share: list[int], deterministic: bool, seed: int) -> tuple[list, list]:
    agent = result.agent
    bound = agent.bind(np.array(result.state.params))
    memory = initial_memory = agent.memory(env.num_envs)
    draw = seeds.gumbels if agent.noise == "gumbel" else seeds.normals
    env.reset(seed)
    obs = tree_map(np.array, env.recv().obs)
    total, length = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
    left, indices, step = np.array(share), np.arange(env.num_envs), 0
    returns: list[float] = []
    lengths: list[int] = []
    while left.any():
        noise = draw(seed, "act", indices, step, 1, agent.noise_size)[0]
        action, head, memory = agent.act(bound, obs, memory, noise)
        env.send(env.spec.action.to_env(agent.mode(head) if deterministic else action))
        steps = env.recv()
        obs, step = tree_map(np.array, steps.obs), step + 1
        memory = reset_memory(memory, steps.valid, initial_memory)
        total += steps.reward
        length += steps.valid
        if length.max() > LONGEST_EPISODE:
            raise EnvironmentFault(
                f"{env.spec.id}: environment {int(length.argmax())} has not ended an episode in {LONGEST_EPISODE:,} "
                "steps; give it a time limit, or evaluate with --stochastic"
            )
        for i in np.flatnonzero(steps.terminated | steps.truncated):
            if left[i]:
                returns.append(float(total[i]))
                lengths.append(int(length[i]))
                left[i] -= 1
            total[i], length[i] = 0.0, 0
    return returns, lengths
