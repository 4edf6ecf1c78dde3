# SPDX-License-Identifier: Apache-2.0
"""A trained policy to be asked for actions outside of training: one observation or a batch, with or without memory."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shoal.agents.base import Acting
from shoal.errors import ConfigError
from shoal.trees import tree_items, tree_leaves, tree_map
from shoal.types import EnvSpec, PyTree


@dataclass(frozen=True, eq=False)
class Policy:
    """Actions of fixed params, on the environment's own scale.

    Check: a batch gives what its rows give one by one.
    """

    spec: EnvSpec
    acting: Acting
    params: np.ndarray

    def __call__(self, obs: Any, deterministic: bool = True, seed: int = 0) -> np.ndarray:
        """Actions for observations [B, ...], or one action for one observation [...].

        With `deterministic` the likeliest action, else a draw that `seed` decides.

        Raises: ValueError for an obs of another form than the environment's, ConfigError where memory is carried.
        """
        if self.acting.recurrent:
            raise ConfigError(
                "this policy carries memory from step to step; call act(obs, memory) and hand on the memory it returns"
            )
        return self.act(obs, (), deterministic, seed)[0]

    def act(
        self, obs: Any, memory: PyTree = None, deterministic: bool = True, seed: int = 0
    ) -> tuple[np.ndarray, PyTree]:
        """Actions as above, and the memory to pass with the next observations of the same environments.

        Without `memory` all episodes are at their start. Of environments that ended, start anew with `initial_memory`.
        """
        batch, single = self._batch(obs)
        num_envs = len(tree_leaves(batch)[0])
        memory = self.initial_memory(num_envs) if memory is None else memory
        generator, size = np.random.default_rng(seed), (num_envs, self.acting.noise_size)
        noise = generator.gumbel(size=size) if self.acting.noise == "gumbel" else generator.normal(size=size)
        action, head, memory = self.acting.act(self._bound, batch, memory, noise.astype(np.float32))
        if deterministic:
            action = self.acting.mode(head)
        action = self.spec.action.to_env(action)
        return (action[0] if single else action), memory

    def initial_memory(self, num_envs: int) -> PyTree:
        """Memory of environments whose episodes begin, () where none is carried."""
        return self.acting.memory(num_envs)

    @cached_property
    def _bound(self) -> Any:
        return self.acting.bind(self.params)

    def _batch(self, obs: Any) -> tuple[PyTree, bool]:
        """Observations [B, ...] in the spec's dtypes, and whether it was a single one."""
        wanted = self.spec.obs
        try:
            arrays = tree_map(lambda spec, leaf: np.asarray(leaf, spec.dtype), wanted, obs)
        except (LookupError, TypeError, ValueError) as fault:
            raise ValueError(f"obs is no observation of {self.spec.id}, which gives {_shapes(wanted)}") from fault
        pairs = list(zip(tree_leaves(wanted), tree_leaves(arrays), strict=True))
        if all(leaf.shape == spec.shape for spec, leaf in pairs):
            return tree_map(lambda leaf: leaf[None], arrays), True
        if all(leaf.shape[1:] == spec.shape and leaf.shape[:1] == pairs[0][1].shape[:1] for spec, leaf in pairs):
            return arrays, False
        raise ValueError(
            f"obs has shape {_shapes(arrays)}; {self.spec.id} gives {_shapes(wanted)}, alone or in a batch"
        )


def _shapes(obs: PyTree) -> str:
    """Shapes of arrays or specs by path."""
    shapes = {path: tuple(leaf.shape) for path, leaf in tree_items(obs)}
    return str(shapes[""]) if "" in shapes else ", ".join(f"{path} {shape}" for path, shape in shapes.items())
