# SPDX-License-Identifier: Apache-2.0
"""Processes whose devices become one mesh: JAX's coordination service, and collectives by gloo between CPUs.

Must happen in a process that has not started JAX. Every process listens at the address of its own machine that it is
given, so with loopback nothing can be reached from elsewhere.
"""

import os
import sys
from typing import Any

import jax
from jax.extend import backend

from shoal.errors import ShoalError
from shoal.processes.ports import LOOPBACK, await_listener, is_free

MEET_S = 40
"""seconds that a process waits for the others before it gives up"""


def meet(address: str, process: int, processes: int, devices: int, host: str = LOOPBACK) -> None:
    """Wait until all processes are here, then start JAX with the devices of all.

    Args:
      address: host:port, the same for all; the first process listens there.
      devices: of this process; on the CPU virtual ones.
      host: where this process listens for collectives; the others have to reach it there.

    Raises: ShoalError in one line where the others do not come, or the port was taken meanwhile.
    """
    who = f"learner process {process + 1} of {processes}"
    if process == 0 and not is_free(address):
        raise ShoalError(f"{who} cannot listen at {address}, which is taken; start the run again")
    if process > 0 and not await_listener(address, MEET_S):  # the service itself would end this process
        raise ShoalError(f"{who} found nobody at {address} within {MEET_S} s; look at why the first one did not start")
    try:
        jax.config.update("jax_num_cpu_devices", devices)
        jax.config.update("jax_enable_recoverability", True)  # who loses another is told, and not ended
        _be_silent()
        jax.distributed.initialize(
            address,
            processes,
            process,
            cluster_detection_method="deactivate",
            initialization_timeout=MEET_S,
            coordinator_bind_address=address,
        )
        backend.register_backend_factory("cpu", lambda: _client(host), fail_quietly=False)
        found = jax.device_count()
    except Exception as fault:
        reason = " ".join(str(fault).split())[:200]
        raise ShoalError(
            f"{who} did not meet the others at {address} within {MEET_S} s "
            f"({reason}); start the run again, or use fewer --learner-processes"
        ) from fault
    if found != processes * devices:
        raise ShoalError(f"{processes} learner processes of {devices} devices found {found} together; start anew")


def _be_silent() -> None:
    """Gloo and the coordination service talk on the standard streams, a page when somebody is lost or merely leaves
    first. What this process has to say of itself comes as a message."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _client(host: str) -> Any:
    """The CPU's client with collectives that listen on this host only; JAX's own choice is the host's public name."""
    from jax._src import distributed, xla_bridge
    from jax._src.lib import _jax  # pyright: ignore[reportPrivateImportUsage]

    gloo = _jax.make_gloo_tcp_collectives(distributed_client=distributed.global_state.client, hostname=host)
    return xla_bridge.make_cpu_client(gloo)
