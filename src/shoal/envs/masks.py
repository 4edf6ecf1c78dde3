# SPDX-License-Identifier: Apache-2.0
"""What masks over actions mean: bits [..., n], for MultiDiscrete the bits of all choices one after another.

Box actions have no masks: `spaces.mask_spec` refuses them.
"""

import numpy as np

from shoal.types import ActionSpec, Box, MultiDiscrete


def mask_size(action: ActionSpec) -> int:
    """Bits in a mask: one for each value of each choice, none for Box."""
    if isinstance(action, Box):
        return 0
    return sum(action.sizes) if isinstance(action, MultiDiscrete) else action.n


def has_legal_action(mask: np.ndarray, action: ActionSpec) -> np.ndarray:
    """bool [...]: whether masks [..., n] leave at least one value to every choice.

    Check: for MultiDiscrete it is the conjunction over the choices' own masks.
    """
    if isinstance(action, MultiDiscrete):
        return np.asarray(np.logical_or.reduceat(mask, first_bits(action), axis=-1).all(-1))
    return np.asarray(mask.any(-1))


def choose_legal(mask: np.ndarray, preference: np.ndarray, action: ActionSpec) -> np.ndarray:
    """The legal actions of highest preference: masks and preferences, both [..., n], give actions int32 [..., *shape].

    Where nothing is legal, the first action.

    Check: equal preferences drawn at random choose uniformly among the legal actions.
    """
    wanted = np.where(mask, preference, -np.inf)
    if isinstance(action, MultiDiscrete):
        choices = np.split(wanted, first_bits(action)[1:], axis=-1)
        return np.stack([choice.argmax(-1) for choice in choices], -1).astype(np.int32)
    return wanted.argmax(-1).astype(np.int32)


def first_bits(action: MultiDiscrete) -> np.ndarray:
    """Where the bits of each choice begin."""
    sizes = np.array(action.sizes)
    return np.cumsum(sizes) - sizes
