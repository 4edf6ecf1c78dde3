# SPDX-License-Identifier: Apache-2.0
"""A shared vector in a child: params and moments lie in shared memory, and the child reads and writes them itself.

In free order nothing but counts goes to the shadow. In fixed order pulls and pushes are the shadow's: their order
counts.
"""

from typing import TYPE_CHECKING

import numpy as np

from shoal.engines.remote.handles import Handle
from shoal.engines.wires.vector import Body
from shoal.engines.worker import here, phase

if TYPE_CHECKING:
    from shoal.engines.remote.desk import Desk


class VectorHandle(Handle):
    """See `wires.vector.Vector`."""

    def __init__(self, key: str, desk: "Desk"):
        super().__init__(key, desk)
        self._body: Body | None = None
        self._max_lag: int | None = None

    def pull(self, at_least: int = 0) -> tuple[np.ndarray, int]:
        """A copy of the params, and the number of pushes in them."""
        if self._desk.fixed:
            version = self._ask("pull", at_least=at_least)
            return self._desk.answer(), version
        body = self._attached()
        version = self._ask("reach", at_least=at_least)
        flat = body.flat.copy()
        self._tell("count_pull", version=version)
        return flat, version

    def push(self, grad: np.ndarray, version: int) -> int:
        """Apply a gradient made from the params of that version; returns the version after it."""
        if self._desk.fixed:
            return self._ask("push", grad, version=version)
        body = self._attached()
        body.refuse_shape(grad)
        lag = int(body.word[0]) - version
        stale = self._max_lag is not None and lag > self._max_lag
        if not stale:
            phase("push", body.apply, grad)
        return self._ask("count_push", lag=lag, stale=stale)

    @property
    def version(self) -> int:
        """Pushes applied."""
        return self._ask("attribute", name="version")

    @property
    def rejected(self) -> int:
        """Gradients that were too old."""
        return self._ask("attribute", name="rejected")

    def _attached(self) -> Body:
        if self._body is None:
            here()
            message = self._desk.ask_for_message("body", wire=self.key)
            (segment,) = self._desk.attach(message)
            size, dtype, moments, shards, self._max_lag = message.header["body"]
            rule = self._desk.answer()
            self._body = Body(segment.map, size, np.dtype(dtype), moments, shards, rule)
            segment.close()
        return self._body
