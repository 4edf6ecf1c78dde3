# SPDX-License-Identifier: Apache-2.0
"""Which processors a process runs on, and with how many threads: a compact notation, and taking a seat.

    env=cpu0-1x16 act=cpu0,cpu1 learn=cpu0-1t1

A seat is a set of processors, `cpu0`, `cpu0-3` or `cpu0-1+4`; `xN` lets N workers share it, `tN` gives each N threads
instead of one for every processor. Seats of a role are parted by commas and taken by its workers in order, again from
the first where there are more workers than seats. Roles: env (environment workers), act, infer, learn.

Affinity is the kernel's word for it, and no process gets beyond its control group's. A process takes its seat before
it imports what makes threads: XLA and BLAS read the number of processors when they start.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal.errors import ConfigError

ROLES = ("env", "act", "infer", "learn")
EXAMPLE = "env=cpu0-1x16 act=cpu0 learn=cpu0,cpu1"
SEAT = re.compile(r"cpu(?P<cpus>\d+(?:-\d+)?(?:\+\d+(?:-\d+)?)*)(?:x(?P<workers>\d+))?(?:t(?P<threads>\d+))?")
THREAD_SETTINGS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""read by XLA's CPU client and by BLAS libraries when they start"""
MOST = 4096
"""processors and workers that a placement may speak of"""


@dataclass(frozen=True)
class Seat:
    """Processors for a worker, or for several that share them."""

    cpus: tuple[int, ...]
    """in rising order"""
    workers: int = 1
    threads: int | None = None
    """of each worker; None: one for every processor"""


Placement = Mapping[str, tuple[Seat, ...]]


def parse_placement(text: str) -> Placement:
    """Seats by role.

    Raises: ConfigError in one line for what is no placement.

    Check: `parse_placement(show_placement(p)) == p`.
    """
    found: dict[str, tuple[Seat, ...]] = {}
    for word in text.split():
        role, equals, seats = word.partition("=")
        if role not in ROLES or not equals or role in found:
            what = "named twice" if role in found else f"no role=seats with a role of {', '.join(ROLES)}"
            raise ConfigError(f"placement {word!r} is {what}; write it like {EXAMPLE!r}")
        found[role] = tuple(_parse_seat(part, word) for part in seats.split(","))
    return found


def show_placement(placement: Placement) -> str:
    """The notation of a placement, as short as it can be."""
    return " ".join(f"{role}={','.join(map(_show_seat, seats))}" for role, seats in placement.items())


def seat_of(placement: Placement, role: str, number: int) -> Seat | None:
    """The seat of a role's worker, counted over all; None where the placement says nothing of the role."""
    seats = placement.get(role)
    if not seats:
        return None
    number %= sum(seat.workers for seat in seats)
    for seat in seats:
        number -= seat.workers
        if number < 0:
            return seat
    raise AssertionError("unreachable: the number was taken modulo all workers")


def require_allowed(placement: Placement) -> None:
    """Raises ConfigError in one line for a processor that this process may not use."""
    allowed = allowed_cpus()
    for role, seats in placement.items():
        for seat in seats:
            beyond = sorted(set(seat.cpus) - set(allowed))
            if beyond:
                raise ConfigError(
                    f"placement {role}={_show_seat(seat)}: cpu{beyond[0]} is not among those this process may use, "
                    f"cpu{_ranges(allowed)}, by its control group or affinity; choose from these"
                )


def allowed_cpus() -> tuple[int, ...]:
    """Processors that this process might use when it started, in rising order; none where the system doesn't say."""
    if not _allowed and hasattr(os, "sched_getaffinity"):
        _allowed.extend(sorted(os.sched_getaffinity(0)))
    return tuple(_allowed)


_allowed: list[int] = []


def take_seat(seat: Seat) -> None:
    """Run on these processors from now on: this thread, and all that are started by it."""
    threads = seat.threads or len(seat.cpus)
    quota = _quota()
    for name in THREAD_SETTINGS:
        os.environ[name] = str(max(1, min(threads, int(quota)) if quota else threads))
    os.sched_setaffinity(0, seat.cpus)


def _quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Processors' worth of time that the control group gives; None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):
        return None


class Seating:
    """The placement of this process and of the workers that it launches."""

    def __init__(self):
        self.text = ""
        self._seated = False
        self._placement: Placement = {}

    def use(self, text: str) -> None:
        """From now on."""
        self.text, self._placement = text, parse_placement(text)
        allowed_cpus()  # before any seat is taken

    def header(self, role: str | None, number: int) -> dict[str, object]:
        """What a child needs to know to take its seat; nothing while there is no placement."""
        if not self._placement:
            return {}
        seat = seat_of(self._placement, role or "", number) or Seat(allowed_cpus())
        return {"placement": self.text, "seat": [list(seat.cpus), seat.threads], "allowed": list(allowed_cpus())}

    def take(self, seat: Seat) -> None:
        """Have this process take a seat."""
        take_seat(seat)
        self._seated = True

    def get_up(self) -> None:
        """Run wherever this process is allowed to, if it had taken a seat before."""
        if self._seated:
            take_seat(Seat(allowed_cpus()))
            self._seated = False

    def sit_down(self, header: Mapping) -> None:
        """In a child: take the seat of its header, if it has one."""
        if "seat" in header:
            _allowed[:] = header["allowed"]
            self.use(header["placement"])
            cpus, threads = header["seat"]
            take_seat(Seat(tuple(cpus), threads=threads))


seating = Seating()


def _parse_seat(part: str, word: str) -> Seat:
    match = SEAT.fullmatch(part)
    if match is None:
        raise ConfigError(f"placement {word!r}: {part!r} is no seat; write one like cpu0, cpu0-3, cpu0-1x16 or cpu0t1")
    cpus: set[int] = set()
    for piece in match["cpus"].split("+"):
        first, _, last = piece.partition("-")
        low, high = int(first), int(last or first)
        if not low <= high < MOST:
            raise ConfigError(f"placement {word!r}: cpu{piece} goes the wrong way or beyond cpu{MOST - 1}")
        cpus.update(range(low, high + 1))
    workers, threads = int(match["workers"] or 1), int(match["threads"]) if match["threads"] else None
    if not 1 <= workers <= MOST or (threads is not None and not 1 <= threads <= MOST):
        raise ConfigError(f"placement {word!r}: {part!r} needs 1 to {MOST} workers and threads")
    return Seat(tuple(sorted(cpus)), workers, threads)


def _show_seat(seat: Seat) -> str:
    workers = f"x{seat.workers}" if seat.workers > 1 else ""
    return f"cpu{_ranges(seat.cpus)}{workers}{f't{seat.threads}' if seat.threads else ''}"


def _ranges(cpus: tuple[int, ...]) -> str:
    """0, 1, 2, 5 as 0-2+5."""
    pieces: list[list[int]] = []
    for cpu in cpus:
        if pieces and cpu == pieces[-1][1] + 1:
            pieces[-1][1] = cpu
        else:
            pieces.append([cpu, cpu])
    return "+".join(f"{low}" if low == high else f"{low}-{high}" for low, high in pieces)
