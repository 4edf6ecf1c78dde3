# SPDX-License-Identifier: Apache-2.0
"""Machines to predict for: some nodes with some cores, and the network between them. Needs no JAX.

here | laptop | workstation | 4x32 | 4x32+8xa100 | machine.json  -->  MachineFacts  -->  Machine of the simulated engine
"""

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.engines import Link, Machine, Site
from shoal.errors import ConfigError
from shoal.placement.accelerators import ACCELERATORS, require_accelerator
from shoal.placement.message_costs import HUB
from shoal.placement.profile import Profile

GIGABIT = 1e9 / 8
"""bytes a second"""
SHAPE = re.compile(r"(\d+)x(\d+)")
WITH_DEVICES = re.compile(r"(?P<machine>.+)\+(?P<devices>\d+)x(?P<device>\w+)")


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """Nodes that are alike."""

    name: str
    nodes: int = 1
    cores: float
    """of a node, that may be used"""
    memory_bytes: int = 16 * 2**30
    """of a node"""
    speed: float = 1.0
    """of a core, beside those that the profile was measured on"""
    crowding: float = 1.0
    """times as long that a process computes while all other cores of its node compute, too"""
    latency_s: float = 50e-6
    """of a message between nodes"""
    bytes_per_s: float = 10 * GIGABIT
    """between a node and the network"""
    devices: int = 0
    """accelerators of a node"""
    device: str = ""
    """what kind they are: a name of `accelerators`, or the platform under which the profile measured those it has"""

    def __post_init__(self):
        for name in ("nodes", "cores", "memory_bytes", "speed", "bytes_per_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"machine {self.name} has {name}={getattr(self, name)}; it must be above 0")
        if self.crowding < 1:
            raise ConfigError(f"machine {self.name} has crowding={self.crowding}; it must be 1 or more")
        if self.latency_s < 0:
            raise ConfigError(f"machine {self.name} has latency_s={self.latency_s}; it must be 0 or more")
        if not isinstance(self.devices, int) or self.devices < 0:
            raise ConfigError(f"machine {self.name} has devices={self.devices}; it must be a whole number, 0 or more")
        if self.devices and not self.device:
            raise ConfigError(
                f"machine {self.name} has devices but no kind; add device, one of {', '.join(ACCELERATORS)}"
            )

    @property
    def measured(self) -> bool:
        """Whether a profile has measured its accelerators, or else they are modelled."""
        return bool(self.devices) and self.device not in ACCELERATORS

    @property
    def words(self) -> str:
        """For people."""
        speed = "" if self.speed == 1 else f", each {self.speed:g}x as fast as measured"
        nodes = "" if self.nodes == 1 else f"{self.nodes} nodes of "
        devices = f" and {self.devices} {self.device}" if self.devices else ""
        return f"{nodes}{self.cores:g} cores{speed}{devices}"

    def make(self, separate: bool, keeper: str | None = None, learners: int = 1) -> Machine:
        """What workers share: actors by turns on all nodes, learner processes too, everybody else on the first.

        Args:
          separate: every worker is a process, or else all are threads of one on each node.
          keeper: the role whose first worker shares an interpreter with what is done for messages.
          learners: processes that learn; where there are several, they come after one that leads them.
        """

        def place(_path: str, role: str, index: int) -> Site:
            learns = role == "learner" and learners > 1 and index > 0
            node = index % self.nodes if role == "actor" else (index - 1) % self.nodes if learns else 0
            if role == keeper and index == 0:
                return Site(node, HUB)
            return Site(node, None if separate else 0)

        link = Link(self.latency_s, self.bytes_per_s) if self.nodes > 1 else None
        return Machine([self.cores] * self.nodes, place, link, crowding=self.crowding)


KNOWN = {
    "laptop": MachineFacts(name="laptop", cores=8, memory_bytes=16 * 2**30),
    "workstation": MachineFacts(name="workstation", cores=32, memory_bytes=128 * 2**30),
}
"""with cores as fast as those of the profile"""


def machine_named(name: str, profile: Profile) -> MachineFacts:
    """A machine by name, by shape such as 4x32 (nodes x cores), or from a JSON file with fields of `MachineFacts`; each
    with accelerators where +8xa100 follows, so many to a node.

    Raises:
      ConfigError: unknown, unreadable, with fields that it does not have, or values that make no sense.
    """
    if name == "here":
        return machine_of(profile)
    if name in KNOWN:
        return dataclasses.replace(KNOWN[name], crowding=profile.crowding)
    if shape := SHAPE.fullmatch(name):
        return MachineFacts(name=name, nodes=int(shape[1]), cores=int(shape[2]), crowding=profile.crowding)
    if (parts := WITH_DEVICES.fullmatch(name)) and not Path(name).exists():
        require_accelerator(parts["device"], f"machine {name}")
        bare = machine_named(parts["machine"], profile)
        return dataclasses.replace(bare, name=name, devices=int(parts["devices"]), device=parts["device"])
    path = Path(name)
    if path.suffix == ".json" or path.exists():
        return read_machine(path)
    raise ConfigError(
        f"machine {name!r} is unknown; use here, {', '.join(KNOWN)}, a shape such as 4x32 (nodes x cores), with "
        f"accelerators 4x32+8xa100, or a JSON file with {', '.join(FIELDS)}"
    )


def machine_of(profile: Profile) -> MachineFacts:
    """What a profile was measured on, with the accelerators that it has measured."""
    memory = int(profile.hardware.get("memory_bytes", MachineFacts.memory_bytes))
    found = MachineFacts(name="here", cores=profile.cores, memory_bytes=memory, crowding=profile.crowding)
    if not profile.accelerators:
        return found
    platform = profile.accelerators[0]
    count = sum(device["platform"] == platform for device in profile.hardware["devices"])
    return dataclasses.replace(found, devices=max(1, count), device=platform)


FIELDS = tuple(field.name for field in dataclasses.fields(MachineFacts) if field.name != "name")


def read_machine(path: Path) -> MachineFacts:
    """A machine from a JSON file. Raises ConfigError in one line for what cannot be one."""
    try:
        data = json.loads(path.read_text())
    except OSError as fault:
        raise ConfigError(f"machine {path} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    except ValueError as fault:
        raise ConfigError(f"machine {path} is no JSON ({fault}); write an object with {', '.join(FIELDS)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"machine {path} is no JSON object; write one with {', '.join(FIELDS)}")
    return _build(path, data)


def _build(path: Path, data: dict[str, Any]) -> MachineFacts:
    for name, value in data.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            remedy = f"nearest: {near[0]}" if near else f"use {', '.join(FIELDS)}"
            raise ConfigError(f"machine {path} has an unknown field {name!r}; {remedy}")
        if name == "device":
            require_accelerator(str(value), f"machine {path}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"machine {path} has {name}={value!r}; it must be a number")
    if "cores" not in data:
        raise ConfigError(f"machine {path} says nothing of its cores; add cores, those of a node")
    return MachineFacts(name=str(path), **data)
