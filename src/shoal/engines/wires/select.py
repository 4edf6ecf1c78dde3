# SPDX-License-Identifier: Apache-2.0
"""Waiting for several wires at once."""

from shoal.engines.wires.base import Condition
from shoal.engines.worker import here
from shoal.errors import ConfigError


def select(*conditions: Condition) -> int:
    """Position of a condition that is ready; waits until there is one.

    Of several, the one served longest ago is chosen, so that no busy wire shuts out another; ties go to the first. A
    wire whose other end has ended is ready: its operation raises Ended. With several consumers another may be faster,
    and the operation then waits.
    """
    if not conditions:
        raise ConfigError("select needs at least one condition")
    worker = here()
    kernel = worker.kernel
    if kernel.selects is not None:
        return kernel.selects(conditions)
    with kernel.lock:
        while not (ready := [c for c in conditions if c.ready()]):
            for condition in conditions:
                condition.watchers.append(worker)
            try:
                kernel.park(worker, "select", " or ".join(c.text for c in conditions))
            finally:
                for condition in conditions:
                    condition.watchers.remove(worker)
        chosen = min(ready, key=lambda c: c.served)
        chosen.served = 1 + max(c.served for c in conditions)
        return conditions.index(chosen)
