# SPDX-License-Identifier: Apache-2.0
"""Learner state to named arrays and back, for checkpoints."""

from typing import Any

import jax
import numpy as np

from shoal.errors import CheckpointError
from shoal.learners.base import LearnerState


def pack(state: LearnerState) -> dict[str, np.ndarray]:
    """Arrays by name; counters go into the manifest.

    Check: `unpack` of it gives the state back bit for bit.
    """
    leaves = jax.tree.leaves(state.optimiser)
    return {"params": np.array(state.params)} | {f"optimiser/{i}": np.array(x) for i, x in enumerate(leaves)}


def unpack(arrays: dict[str, np.ndarray], meta: dict[str, Any], like: LearnerState) -> LearnerState:
    """The state saved in a checkpoint, in the form of `like`.

    Raises CheckpointError where arrays are missing or of other shapes: another network or optimiser wrote them.
    """
    leaves, form = jax.tree.flatten(like.optimiser)
    wanted = {"params": like.params} | {f"optimiser/{i}": x for i, x in enumerate(leaves)}
    for name, array in wanted.items():
        if name not in arrays or arrays[name].shape != np.shape(array):
            found = arrays[name].shape if name in arrays else "nothing"
            raise CheckpointError(
                f"checkpoint holds {found} for {name}, this run needs {np.shape(array)}; "
                "resume with the network and optimiser it was trained with"
            )
    restored = [jax.numpy.asarray(arrays[f"optimiser/{i}"], np.asarray(x).dtype) for i, x in enumerate(leaves)]
    return LearnerState(
        jax.numpy.asarray(arrays["params"]),
        jax.tree.unflatten(form, restored),
        updates=meta["updates"],
        env_steps=meta["env_steps"],
        version=meta["version"],
    )
