# SPDX-License-Identifier: Apache-2.0
"""Sums over the workers of one role that compiled code makes itself, such as gradients over devices.

Nothing is handed over here: a collective goes from device to device, or over the network, without this process's doing.
The wire declares it and counts what it moved, so that the ledger is whole.
"""

from typing import TYPE_CHECKING, Any, Literal

from shoal.engines.payload import nbytes
from shoal.engines.wires.base import Wire
from shoal.engines.worker import here

if TYPE_CHECKING:
    from shoal.engines.system import System


class Reduction(Wire):
    """Made by `System.reduction`.

    Args:
      members: that put in a value each; with a single one nothing crosses, and the ledger has no row.
      like: a value as each member puts it in.
      via: device or network.
      made: sums so far.
    """

    def __init__(  # noqa: PLR0913 one call, in System.reduction
        self,
        system: "System",
        message: str,
        role: str,
        members: int,
        like: Any,
        via: Literal["device", "network"],
        made: int,
    ):
        super().__init__(system, message)
        self.role, self.members, self.made = role, members, made
        self._size = nbytes(like)
        self._row = self.ledger.row(self.path, role, role, message, via) if members > 1 else None

    def reached(self, made: int) -> None:
        """So many sums were made in all: what is new is counted, a message for each member."""
        self.index_of(here(), self.role, "sum")
        with self.kernel.lock:
            if self._row is not None:
                self._row.add_many((made - self.made) * self.members, self._size)
            self.made = made
