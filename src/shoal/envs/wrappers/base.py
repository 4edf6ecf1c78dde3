# SPDX-License-Identifier: Apache-2.0
"""What wrappers over the host interface share: everything they do not change goes straight through."""

import numpy as np

from shoal.envs.base import VectorEnv
from shoal.types import EnvSpec, Steps


class Wrapper:
    """A VectorEnv around another one. A subclass changes the rows in `_changed`."""

    def __init__(self, env: VectorEnv, spec: EnvSpec):
        self.env, self.spec = env, spec
        self.num_envs, self.split_invariant, self.steps_apart = env.num_envs, env.split_invariant, env.steps_apart
        if hasattr(env, "frames_per_s"):
            self.frames_per_s: float = env.frames_per_s  # type: ignore[attr-defined]

    def reset(self, seed: int) -> None:
        self.env.reset(seed)

    def send(self, action: np.ndarray, slots: np.ndarray | None = None) -> None:
        self.env.send(action, slots)

    def recv(self, min_ready: int | None = None) -> Steps:
        """Rows of the environments inside, changed."""
        return self._changed(self.env.recv(min_ready))

    def close(self) -> None:
        self.env.close()

    def _changed(self, rows: Steps) -> Steps:
        """What the receiver gets in place of these rows."""
        raise NotImplementedError
