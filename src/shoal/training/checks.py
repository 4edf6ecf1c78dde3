# SPDX-License-Identifier: Apache-2.0
"""What a run's settings must keep to, checked before JAX is imported."""

from typing import Any

from shoal.architectures.assemble import refuse_nameless, require_room, require_sampling
from shoal.architectures.optimisation import require_processes_of_learners
from shoal.architectures.placing import check_cards, check_placement
from shoal.engines import IN_PROCESSES, check_engine
from shoal.errors import ConfigError
from shoal.records.tensorboard import check_tensorboard


def check_settings(settings: dict[str, Any], config: Any, factory: Any) -> None:
    """Raises ConfigError for what cannot be run, before JAX is imported."""
    check_engine(settings["engine"], settings["order"])
    check_stops(settings["stop_return"], settings["stop_minutes"])
    seconds = settings["hang_seconds"]
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"hang_seconds={seconds} must be above 0 and finite; change --hang-seconds")
    require_processes_of_learners(config, settings["engine"], settings["order"])
    check_placement(config, settings["engine"])
    check_cards(config, settings["engine"])
    if settings["engine"] in IN_PROCESSES:
        refuse_nameless(factory, settings["network"], "use --engine threads")
        require_room(config, factory.spec)
    if settings["tensorboard"]:
        check_tensorboard()
    require_sampling(config, factory, settings["network"])


def check_stops(stop_return: float | None, stop_minutes: float | None) -> None:
    """Raises ConfigError for stop conditions that can never be met."""
    if stop_return is not None and not abs(stop_return) < float("inf"):
        raise ConfigError(f"stop_return={stop_return} can never be compared; give a finite return")
    if stop_minutes is not None and not 0 < stop_minutes < float("inf"):
        raise ConfigError(f"stop_minutes={stop_minutes} must be above 0 and finite; change --stop-minutes")
