# SPDX-License-Identifier: Apache-2.0
"""What JAX sees of the machine."""

from typing import Any


def devices() -> list[dict[str, Any]]:
    """Every JAX device as {"platform", "kind", "id"}. Starts JAX's backend."""
    import jax

    return [{"platform": d.platform, "kind": d.device_kind, "id": d.id} for d in jax.devices()]
