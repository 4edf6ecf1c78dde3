# SPDX-License-Identifier: Apache-2.0
"""What `train`, `resume` and `load` give back."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shoal.agents.base import Agent
from shoal.agents.export import export_policy
from shoal.agents.policy import Policy
from shoal.envs import EnvFactory
from shoal.errors import ConfigError
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

    @cached_property
    def policy(self) -> Policy:
        """Actions for observations: `policy(obs)`, or `policy.act(obs, memory)` where memory is carried."""
        return Policy(self.factory.spec, self.agent, np.array(self.state.params))

    def export(self, folder: Path | str) -> Path:
        """Write the policy as NumPy and JSON for `shoal.load_policy`, which needs no JAX; gives the folder.

        Raises: ConfigError where the network acts in JAX only, CheckpointError where the folder cannot be written.
        """
        if self.agent.plan is None:
            raise ConfigError(
                "this policy's network acts in JAX only, so it cannot be exported as NumPy; networks without frames "
                "can: mlp, lstm, gru"
            )
        return export_policy(folder, self.factory.spec, self.agent.plan, self.policy.params)
