# SPDX-License-Identifier: Apache-2.0
"""Ray joined or started, without its talk, and never waited for longer than said."""

import contextlib
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from shoal.engines.cluster.ray_faults import explained
from shoal.errors import ConfigError

JOIN_S = 20.0
"""seconds to reach a cluster"""
LOOPBACK = "127.0.0.1"
SEAT = "shoal_worker"
"""what workers reserve of a cluster that was started for the run"""
SMALLEST = 80 * 2**20
"""bytes of Ray's object store: nothing of ours goes through it"""


def prepared_ray(*, own: bool) -> Any:
    """The module ray, imported under the settings that it reads at import: quiet, and for a cluster of our own on the
    loopback address only, with a token."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    if own:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's way of saying: loopback only
    before = "ray" in sys.modules
    import ray

    if own and before:
        from ray import _raylet
        from ray._private import ray_constants

        _raylet.Config.initialize("")  # pyright: ignore[reportAttributeAccessIssue]
        ray_constants.ENABLE_RAY_CLUSTER = False
    return ray


def start_alone(ray: Any) -> None:
    """A cluster of this machine alone: loopback, no dashboard. Raises ConfigError."""
    try:
        with hushed():
            ray.init(
                address="local",
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                object_store_memory=SMALLEST,
                resources={SEAT: 1_000_000},
                log_to_driver=False,
                logging_level="error",
            )
    except Exception as error:
        raise ConfigError(f"Ray cannot start here: {explained(error)}") from error


def join(ray: Any, address: str) -> None:
    """A cluster that runs already. Raises ConfigError within JOIN_S and a little."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), JOIN_S / 2).close()
        except OSError as error:
            raise ConfigError(
                f"nobody answers at {address} ({error.strerror or error}); start a head with `ray start --head`, "
                "or give its address"
            ) from error
    failed: list[Exception] = []

    def call() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:  # noqa: BLE001 told below
            failed.append(error)

    joining = threading.Thread(target=call, daemon=True)
    with hushed():
        joining.start()
        joining.join(JOIN_S)
    if joining.is_alive():
        hush_for_good()
        raise ConfigError(
            f"{address} is no head of a Ray cluster that answers within {JOIN_S:g} s; look at the address, and at "
            "the token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
        )
    if failed:
        raise ConfigError(f"the cluster at {address} cannot be joined: {explained(failed[0])}") from failed[0]


def refuses(address: tuple[str, int] | None) -> bool:
    """Whether nobody listens there any more, on a machine that can be reached."""
    if address is None:
        return False
    try:
        socket.create_connection(address, 2.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def in_time(seconds: float, fn: Callable[[], Any]) -> None:
    """Call fn, but go on without it after so many seconds, as Ray waits for a head that may be gone. Never raises."""

    def call() -> None:
        with contextlib.suppress(Exception):
            fn()

    caller = threading.Thread(target=call, name="cluster word", daemon=True)
    caller.start()
    caller.join(seconds)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without what Ray's own code writes to standard error meanwhile: what went wrong is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    _to_nowhere()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def hush_for_good() -> None:
    """Ray goes on trying in a thread that nobody can end; only Python itself may write to standard error any more."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    _to_nowhere()


def _to_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
