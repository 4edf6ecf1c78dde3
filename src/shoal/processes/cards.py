# SPDX-License-Identifier: Apache-2.0
"""Whether processes that act may use accelerators beside this one, and how much of their memory each takes.

JAX takes three quarters of an accelerator's memory when it starts, so a second process would find too little. By
default processes therefore compute on cores, and the one that launched them has the accelerators. With a share, all who
act and this process take that much each; who never acts stays on cores.

JAX reads its platforms when it is imported, which the fork server may have done, and the share of memory when it first
computes, which only children do.
"""

import os
import sys
from collections.abc import Mapping

ROLES = ("act", "infer")
"""of children that may use accelerators"""
PLATFORMS = "JAX_PLATFORMS"
FRACTION = "XLA_CLIENT_MEM_FRACTION"
OLD_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
"""the name before, beside which JAX refuses the new one"""


class Cards:
    """The share of this process and of the workers that it launches."""

    def __init__(self):
        self.share: float | None = None

    def use(self, share: float | None) -> None:
        """From now on, for this process, if JAX has not started, and for its children. None: accelerators are this
        process's, and how much of them as the environment says."""
        if share is not None:
            take_share(share)
        elif self.share is not None:
            os.environ.pop(FRACTION, None)
        self.share = share

    def header(self, role: str | None) -> dict[str, object]:
        """What a child needs to know to use accelerators; nothing for one that stays on cores."""
        if self.share is None or role not in ROLES:
            return {}
        return {"device_share": self.share, "platforms": os.environ.get(PLATFORMS)}

    def sit_down(self, header: Mapping) -> None:
        """In a child: see the accelerators that its launcher sees, if its header says so."""
        if "device_share" not in header:
            return
        take_share(header["device_share"])
        platforms = header["platforms"]
        if platforms is None:
            os.environ.pop(PLATFORMS, None)
        else:
            os.environ[PLATFORMS] = platforms
        if "jax" in sys.modules:  # imported by the fork server, for cores
            sys.modules["jax"].config.update("jax_platforms", platforms)


cards = Cards()


def take_share(share: float) -> None:
    """Have JAX take this share of an accelerator's memory in this process, if it has not started yet."""
    os.environ.pop(OLD_FRACTION, None)
    os.environ[FRACTION] = f"{share:g}"
