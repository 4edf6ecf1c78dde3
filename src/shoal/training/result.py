# SPDX-License-Identifier: Apache-2.0
"""What `train`, `resume` and `load` give back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shoal.agents.base import Agent
from shoal.envs import EnvFactory
from shoal.learners.base import LearnerState


@dataclass(frozen=True)
class Result:
    """A trained policy, and where everything about it was written."""

    run_dir: Path
    metrics: list[dict[str, Any]]
    """rows of metrics.jsonl"""
    config: Any
    state: LearnerState
    agent: Agent
    factory: EnvFactory
    stop_reason: str | None = None
    """why training ended before env_steps; None where it did not"""
    exit_code: int = 0

    def policy(self, obs: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """Actions for observations [B, ...], or one action for one observation [...].

        Box actions are on the environment's own scale. With `deterministic` the likeliest action, else a draw that
        `seed` decides.

        Check: a batch gives what its rows give one by one.
        """
        spec = self.factory.spec
        obs = np.asarray(obs, spec.obs.dtype)
        single = obs.shape == spec.obs.shape
        batch = obs[None] if single else obs
        if batch.shape[1:] != spec.obs.shape:
            raise ValueError(f"obs has shape {obs.shape}; {spec.id} gives {spec.obs.shape}, alone or in a batch")
        generator = np.random.default_rng(seed)
        size = (len(batch), self.agent.noise_size)
        noise = generator.gumbel(size=size) if self.agent.noise == "gumbel" else generator.normal(size=size)
        action, head, _ = self.agent.act(
            self.agent.bind(np.array(self.state.params)), batch, self.agent.memory(len(batch)), noise.astype(np.float32)
        )
        if deterministic:
            action = self.agent.mode(head)
        action = spec.action.to_env(action)
        return action[0] if single else action
