# SPDX-License-Identifier: Apache-2.0
"""Whether a placement (`processes.seats`) and shares of accelerators (`processes.cards`) fit the processes that a
config and an engine make."""

import sys
from collections.abc import Mapping
from typing import Any

from shoal.engines import IN_PROCESSES
from shoal.errors import ConfigError
from shoal.processes.cards import cards
from shoal.processes.seats import Placement, Seat, parse_placement, require_allowed, seating, show_placement


def check_placement(config: Any, engine: str) -> None:
    """Raises ConfigError in one line for a placement of processes that there will not be."""
    placement = parse_placement(config.placement)
    for role in ("act", "infer"):
        if role in placement and engine not in IN_PROCESSES:
            raise ConfigError(
                f"placement {_word(placement, role)} cannot be on --engine {engine}: its workers share a process, and "
                "one process has one XLA client; use --engine processes, or place learn and env only"
            )
    if "env" in placement and not config.env_workers:
        raise ConfigError(
            f"placement {_word(placement, 'env')} has no processes to place: actors step environments themselves; "
            "raise --env-workers, or place act"
        )
    _require_count(placement, "env", config.all_actors * config.env_workers, "environment workers")
    _require_count(placement, "act", config.all_actors, "actors")


def use_placement(fields: Mapping[str, Any]) -> None:
    """Seat this process and those that it will launch by the field `placement`; others keep what they are allowed.

    Has to come before JAX starts. Learners in this process take all seats of learn together.

    Raises: ConfigError for what is no placement, or not allowed here.
    """
    text = fields.get("placement") or ""
    if not isinstance(text, str):
        return  # whoever checks the fields will say so
    placement = parse_placement(text)
    if placement and not sys.platform.startswith("linux"):
        raise ConfigError(f"placement={text!r} needs Linux, which can bind processes to processors; leave it out")
    require_allowed(placement)
    seating.use(text)
    seats = placement.get("learn", ())
    if seats and not learns_apart(fields):
        cpus = {cpu for seat in seats for cpu in seat.cpus}
        seating.take(Seat(tuple(sorted(cpus)), threads=seats[0].threads))
    else:
        seating.get_up()


def check_cards(config: Any, engine: str) -> None:
    """Raises ConfigError in one line for shares of accelerators that nobody takes, or that are more than there is."""
    share = config.device_memory_frac
    if share is None:
        return
    said = f"device_memory_frac={share:g}"
    if engine not in IN_PROCESSES:
        raise ConfigError(f"{said} is for processes beside one another; use --engine processes, or leave it out")
    if learns_apart(vars(config)):
        raise ConfigError(f"{said} is for processes that act; learners in processes of their own compute on cores")
    count = sharers(config)
    if count * share > 1:
        raise ConfigError(
            f"{said} for each of {count} processes, those that act and the learner's, is more than an accelerator has; "
            f"lower --device-memory-frac to {even_share(config):.2g}, or use fewer actors"
        )


def use_cards(fields: Mapping[str, Any]) -> None:
    """Share accelerators as the field `device_memory_frac` says. Has to come before JAX starts."""
    try:
        share = float(fields.get("device_memory_frac") or "")
    except (TypeError, ValueError):
        share = None  # none, or nonsense: whoever checks the fields will say so
    cards.use(share if share is not None and 0 < share <= 1 else None)


def sharers(config: Any) -> int:
    """Processes that may use an accelerator: the learner's, and actors' or the one that acts for them all."""
    return 1 + (1 if hasattr(config, "requests") else config.all_actors)


def even_share(config: Any) -> float:
    """Share of an accelerator's memory for each process, where all take the same and a tenth is left to the driver."""
    return 0.9 / sharers(config)


def learns_apart(fields: Mapping[str, Any]) -> bool:
    """Whether learners are processes of their own."""
    return fields.get("optimisation", "sync") != "sync" or str(fields.get("learner_processes", 1)) != "1"


def _require_count(placement: Placement, role: str, count: int, what: str) -> None:
    """Where seats say how many workers they are for, they have to be right."""
    said = sum(seat.workers for seat in placement.get(role, ()))
    if any(seat.workers > 1 for seat in placement.get(role, ())) and said != count:
        raise ConfigError(
            f"placement {_word(placement, role)} seats {said} workers, this run has {count} {what}; change the numbers "
            "after x, or leave them out"
        )


def _word(placement: Placement, role: str) -> str:
    return show_placement({role: placement[role]})
