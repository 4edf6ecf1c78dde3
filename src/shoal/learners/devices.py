# SPDX-License-Identifier: Apache-2.0
"""Which devices learners compute on: accelerators as they are, and on the CPU virtual devices, made before JAX starts.

The last CPU device is left to acting (`agents.devices`). A virtual device is a queue over threads that all share, so
one that rests costs nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from shoal.errors import ConfigError
from shoal.learners.sharing_out import most_even

MOST_PER_CORE = 4
"""virtual devices: more than one only cost time, and are for tests of what more devices would do"""
ONE_THREAD_EACH = "--xla_cpu_multi_thread_eigen=false"


def make_devices(learners: int, asked: int, cores: int) -> None:
    """Have the CPU show as many devices as learners will use, and one for acting; starts JAX.

    Where every core gets a device, each works with one thread, so that devices do not take each other's cores.
    Does nothing for one device, nor where JAX has started before: then there are as many devices as there are.

    Raises: ConfigError for more devices than make sense on so many cores.
    """
    if asked > MOST_PER_CORE * cores:
        raise ConfigError(
            f"learner_devices={asked} are more than {MOST_PER_CORE} virtual devices for each of {cores} usable cores; "
            "lower --learner-devices"
        )
    count = asked or most_even(learners, cores)
    if count == 1:
        return
    try:
        jax.config.update("jax_num_cpu_devices", count + 1)
    except RuntimeError:  # JAX has started
        return
    with _flags(ONE_THREAD_EACH if count >= cores else ""):
        jax.local_devices()


def learner_devices(learners: int, asked: int, cores: int) -> list[Any]:
    """Devices for so many learners: those asked for, or as many as make sense; one may drive several learners.

    Raises: ConfigError where there are fewer than were asked for.
    """
    present = jax.local_devices()
    if present[0].platform == "cpu" and len(present) > 1:
        present = present[:-1]
    if asked > len(present):
        started = "" if present[0].platform != "cpu" else ", made when JAX was first used in this process"
        raise ConfigError(
            f"learner_devices={asked} are more than the {len(present)} {present[0].platform} devices for learners"
            f"{started}; lower --learner-devices{' or start a new process' if started else ''}"
        )
    room = min(len(present), cores) if present[0].platform == "cpu" else len(present)
    return present[: asked or most_even(learners, room)]


def devices_of_all() -> list[Any] | None:
    """Devices of all processes that met (`learners.meeting`); None in a process that met nobody."""
    return jax.devices() if jax.process_count() > 1 else None


@contextmanager
def _flags(more: str) -> Iterator[None]:
    """XLA reads its flags when it starts; children of this process are to start with flags of their own."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {more}".strip()
    try:
        yield
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
