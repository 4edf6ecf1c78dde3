# SPDX-License-Identifier: Apache-2.0
"""Two profiles beside one another: every part that both measured, and what else differs. Needs no JAX.

profile A, profile B --> same parts? --> rows: A, B, ratio, within noise · what differs · what only one has
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from shoal import __version__
from shoal.errors import ConfigError
from shoal.placement.layouts import key_of, layout_words
from shoal.placement.profile import Curve, Point, Profile
from shoal.placement.verdict import disturbance
from shoal.records import hardware

MACHINE = (
    ("processor", "cpu_model"),
    ("cores", "cores"),
    ("physical cores", "physical_cores"),
    ("usable cores", "usable_cores"),
)
"""what makes a machine another one: words, and the key in a profile's hardware"""
LIBRARIES = ("jax", "numpy")
"""whose versions times depend on"""
PROGRAMS = (("python", "python"), *((name, name) for name in LIBRARIES))
SURROUNDINGS = (("memory bytes", "memory_bytes"), ("system", "platform"))

Facts = dict[str, Any]
"""by words; what a profile doesn't say is left out"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part in both profiles."""

    part: str
    unit: str
    """seconds, or steps/s"""
    a: float
    b: float
    noise_a: float | None
    noise_b: float | None

    @property
    def ratio(self) -> float:
        """b / a."""
        return self.b / self.a

    @property
    def within(self) -> bool | None:
        """Whether they differ by no more than the noise of both, added up; None where one noise is not known.

        Check: the same whichever is called A.
        """
        if self.noise_a is None or self.noise_b is None:
            return None
        return max(self.ratio, 1 / self.ratio) - 1 <= self.noise_a + self.noise_b


@dataclass(frozen=True)
class Comparison:
    """All that can be said about two profiles."""

    rows: list[Row]
    differing: list[tuple[str, Any, Any]]
    """(what, in A, in B)"""
    alone: list[tuple[str, str]]
    """(A or B, what only that one measured)"""
    disturbed: tuple[float, float]
    """shares of the cores that other programs used while A and B were measured"""


def compare(a: Profile, b: Profile) -> Comparison:
    """Both beside one another.

    Raises:
      ConfigError: observations, actions or networks differ in form, so that the same part is other work.

    Check: beside itself every ratio is 1 and nothing differs.
    """
    check_same_work(a, b)
    mine, other = dict(parts(a)), dict(parts(b))
    if a.architecture != b.architecture:
        # the update and the estimate are of the architecture's learner: other work under the same name
        mine, other = ({k: v for k, v in found.items() if k[0] not in OF_LEARNER} for found in (mine, other))
    rows = [_row(key, mine[key], other[key]) for key in mine if key in other]
    alone = [("A", _words(key)) for key in mine if key not in other]
    alone += [("B", _words(key)) for key in other if key not in mine]
    return Comparison(rows, differing(facts(a), facts(b)), alone, (disturbance(a), disturbance(b)))


def check_same_work(a: Profile, b: Profile) -> None:
    """Raise ConfigError in one line unless parts of the same name are the same work."""
    pairs = [
        ("observations", a.env.obs_words, b.env.obs_words),
        ("actions", _actions(a), _actions(b)),
        ("the network", f"{a.network} of {a.params:,} numbers", f"{b.network} of {b.params:,} numbers"),
    ]
    for what, mine, other in pairs:
        if mine != other:
            raise ConfigError(
                f"the profiles are of other work: {what} {mine} in one, {other} in the other; measure both with the "
                "same form of environment and the same --network"
            )


def differing(a: Facts, b: Facts) -> list[tuple[str, Any, Any]]:
    """What both say and say differently, as (what, in a, in b)."""
    return [(what, a[what], b[what]) for what in a if what in b and a[what] != b[what]]


def differences(profile: Profile) -> str:
    """In what a profile was measured elsewhere or otherwise than now; empty for nowhere."""
    now = machine_facts(__version__, here())
    found = differing(machine_facts(profile.shoal, profile.hardware), now)
    return ", ".join(f"{what} {then} (here {this})" for what, then, this in found)


def here(devices: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """This machine and the libraries that times depend on, as a profile keeps them."""
    return hardware.describe(devices) | {name: version(name) for name in LIBRARIES}


def machine_facts(shoal: str, found: dict[str, Any]) -> Facts:
    """The machine, and the programs that times depend on."""
    listed = {"shoal": shoal} | {words: found.get(key) for words, key in (*MACHINE, *PROGRAMS)}
    return {words: value for words, value in listed.items() if value is not None}


def facts(profile: Profile) -> Facts:
    """All that two profiles of the same work can differ in beside the figures."""
    listed = {words: profile.hardware.get(key) for words, key in SURROUNDINGS}
    devices = [f"{d['platform']} ({d['kind']})" for d in profile.hardware.get("devices", [])]
    return {
        "environment": profile.env.id,
        "its settings": profile.env.settings,
        "architecture of the updates": profile.architecture,
        **machine_facts(profile.shoal, profile.hardware),
        **{words: value for words, value in listed.items() if value is not None},
        "devices": ", ".join(devices),
    }


Key = tuple[str, ...]
Value = tuple[str, float, float | None]
"""(unit, figure, noise)"""
OF_LEARNER = ("update", "advantage estimate")


def parts(profile: Profile) -> Iterator[tuple[Key, Value]]:
    """Every figure by its part, platform and size, in the order of the boxes."""

    def curves(name: str, found: dict[str, Curve], unit: str) -> Iterator[tuple[Key, Value]]:
        for where, curve in found.items():
            yield from ((_key(name, where, p.size, unit), _seconds(p)) for p in curve.points)

    yield from curves("environment step", {"": profile.env_step}, "envs")
    yield _key("environment reset", "", profile.env_reset.size, "envs"), _seconds(profile.env_reset)
    yield from curves("inference", profile.inference, "observations")
    yield from curves("update", profile.update, "rows")
    yield _key("advantage estimate", "", profile.estimate.size, "rows"), _seconds(profile.estimate)
    yield from curves("transfer", profile.transfer, "bytes")
    yield _key("memory copy", "", profile.copy.size, "bytes"), _seconds(profile.copy)
    yield from message_parts(profile)
    if (together := profile.in_step) is not None:
        for way in ("devices", "processes"):
            point = getattr(together, way)
            yield _key(f"update by two {way}", together.architecture, point.size, "rows each"), _seconds(point)
    for trial in profile.trials:
        key = ("run", trial.architecture, layout_words(trial.settings, trial.engine), str(key_of(trial)))
        yield key, ("steps/s", trial.env_steps_per_s, trial.noise)


def message_parts(profile: Profile) -> Iterator[tuple[Key, Value]]:
    """What a message takes over the agent of a node, where that was measured; how well it agrees is not known."""
    if profile.relayed is None:
        return
    relayed = profile.relayed
    for who in ("main", "agent", "worker"):
        seconds = getattr(relayed, who).turn_s
        if seconds > 0:
            yield ("message on ray", f"processor time in {who}", "", ""), ("seconds", seconds, None)


def _key(name: str, where: str, size: int, unit: str) -> Key:
    return name, where, f"{size:,} {unit}", ""


def _seconds(point: Point) -> Value:
    return "seconds", Curve(points=(point,)).seconds(point), point.noise


def _words(key: Key) -> str:
    return ", ".join(word for word in key[:-1] if word)


def _row(key: Key, a: Value, b: Value) -> Row:
    return Row(part=_words(key), unit=a[0], a=a[1], b=b[1], noise_a=a[2], noise_b=b[2])


def _actions(profile: Profile) -> str:
    return f"{profile.env.action} {list(profile.env.action_sizes)}"
