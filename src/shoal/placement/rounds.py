# SPDX-License-Identifier: Apache-2.0
"""Timed calls are kept and timed once more at the end: what changes more slowly than one measurement takes, such as a
busy neighbour or a warm processor, shows between the rounds and is stated as noise."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from shoal.engines.clock import BLOCKS, Timing, measure
from shoal.placement.merge import merge_points
from shoal.placement.profile import Curve, Point, Profile

SLOW_S = 0.1
"""a call of so many seconds is called once in the second round, and not for nothing first"""

Within = Callable[[], AbstractContextManager[Any]]
"""opened around the calls of a measurement, such as a choice of device"""


class Kept(NamedTuple):
    """A call that was timed, and how."""

    point: Point
    call: Callable[[], Any]
    seconds: float
    within: Within

    @property
    def cost_s(self) -> float:
        """Seconds that timing it again takes."""
        each = self.point.mean_s
        return max(self.seconds, each) if each >= SLOW_S else max(self.seconds, BLOCKS * each) + each


class Rounds:
    """Times calls and keeps them.

    A context: what was opened for the calls with `open` is closed at its end.
    """

    def __init__(self):
        self.open = ExitStack()
        self._kept: list[Kept] = []

    def __enter__(self) -> "Rounds":
        return self

    def __exit__(self, *_: object) -> None:
        self.open.close()

    def time(
        self,
        size: int,
        call: Callable[[], Any],
        seconds: float,
        *,
        min_calls: int = 3,
        warm_up: int = 1,
        within: Within = nullcontext,
    ) -> Point:
        """The first round of a call; arguments are those of `measure`."""
        with within():
            point = as_point(size, measure(call, seconds=seconds, min_calls=min_calls, warm_up=warm_up))
        self._kept.append(Kept(point, call, seconds, within))
        return point

    @property
    def cost_s(self) -> float:
        """Seconds that another round takes."""
        return sum(kept.cost_s for kept in self._kept)

    def again(self, profile: Profile, enough: Callable[[], bool]) -> Profile:
        """The profile with every kept call timed once more; those left out are as they were.

        Args:
          enough: asked before each call, whether to leave it out.

        Check: of calls that take the same, the same seconds.
        """
        found = {}
        for kept in self._kept:
            if not enough():
                min_calls, warm_up = (1, 0) if kept.point.mean_s >= SLOW_S else (BLOCKS, 1)
                with kept.within():
                    timing = measure(kept.call, seconds=kept.seconds, min_calls=min_calls, warm_up=warm_up)
                found[kept.point] = merge_points([kept.point, as_point(kept.point.size, timing)])
        return each_point(profile, lambda point: found.get(point, point))


def as_point(size: int, timing: Timing) -> Point:
    """A timing with the size it belongs to."""
    return Point(size=size, **timing._asdict())


def each_point(profile: Profile, change: Callable[[Point], Point]) -> Profile:
    """The profile with each of its points changed."""

    def curve(found: Curve) -> Curve:
        return Curve(points=tuple(change(point) for point in found.points))

    def named(curves: dict[str, Curve]) -> dict[str, Curve]:
        return {name: curve(found) for name, found in curves.items()}

    return replace(
        profile,
        env_step=curve(profile.env_step),
        env_reset=change(profile.env_reset),
        inference=named(profile.inference),
        update=named(profile.update),
        estimate=change(profile.estimate),
        transfer=named(profile.transfer),
        copy=change(profile.copy),
    )
