# SPDX-License-Identifier: Apache-2.0
"""Which device of this process acts, where learners use several."""

from typing import Any

import jax


def acting_device(config: Any) -> Any | None:
    """Where to act in JAX beside learners that may span devices: on the last one, which `learners.devices` leaves to
    this. A collective that waits for a device which acting keeps busy may wait for ever. None: wherever JAX likes.

    Check: no learner's program runs on it.
    """
    return jax.local_devices()[-1] if getattr(config, "learners", 1) > 1 else None
