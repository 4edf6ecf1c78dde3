# SPDX-License-Identifier: Apache-2.0
"""Settings of optimisation over several learners, which A2C and PPO share. Imports no JAX."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from shoal.architectures.base import ActorCriticConfig, require
from shoal.architectures.placing import use_cards, use_placement
from shoal.architectures.sampling import IN_STEP
from shoal.engines import IN_PROCESSES
from shoal.errors import ConfigError
from shoal.records.hardware import usable_cores

DEVICE_FIELDS = (
    "learners", "learner_devices", "learner_processes", "optimisation", "placement", "device_memory_frac"
)  # fmt: skip
"""on which it depends what devices and processors a process needs"""


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig(ActorCriticConfig):
    """How many learners share the work of an update, and where they run."""

    learners: int = 1
    """learners that each take a share of the environments"""
    optimisation: Literal["sync", "async", "async_skip"] = "sync"
    """sync: gradients are averaged before every step; async: learners push to shared params; async_skip: every few
    steps"""
    scaling: Literal["strong", "weak"] = "strong"
    """strong: the actors are shared out over the learners; weak: num_actors are each learner's, so batches grow"""
    learner_devices: int = 0
    """devices of a learner process, each driving equally many learners; 0: as many as make sense"""
    learner_processes: int = 1
    """processes that the learners of sync are spread over, with collectives over the network between them"""
    gradient_noise: bool = False
    """measure the noise of gradients by comparing those of learners with their mean; takes two learners of sync"""
    drop_slowest: int = 0
    """actors whose trajectories an update of sync does not wait for: they come too late, are dropped and counted"""

    chunks: int = 3
    """parts of the shared params with a lock each (async, async_skip)"""
    skip_batches: int = 4
    """batches that a learner trains on alone before it merges what came of it (async_skip)"""
    batches_per_visit: int = 2
    """batches of learners between looks at how far the run is (async, async_skip)"""

    samplers = IN_STEP
    steps_per_batch = passes = 1
    """gradient steps on a batch, and how often each of its rows is used"""

    @property
    def apart(self) -> bool:
        """Whether learners share params and nothing else."""
        return self.optimisation != "sync"

    @property
    def actors_per_learner(self) -> int:
        """Actors of each learner's own, where learners are apart."""
        return self.all_actors // self.learners

    @property
    def steps_per_exchange(self) -> int:
        """Gradient steps between two exchanges of a learner."""
        return self.skip_batches * self.steps_per_batch if self.optimisation == "async_skip" else 1

    @property
    def rows_per_exchange(self) -> int:
        """Rows that a learner collects for an exchange, in the mean; at least one."""
        rows = self.actors_per_learner * self.envs_per_actor * self.unroll_length
        return max(1, rows * self.steps_per_exchange // self.steps_per_batch)

    @property
    def exchanges_per_visit(self) -> int:
        """Exchanges of learners in batches_per_visit batches, at least one."""
        return max(1, self.batches_per_visit * self.steps_per_batch // self.steps_per_exchange)

    @property
    def rows_per_step(self) -> int:
        """Rows of a gradient step: of all learners, or where they are apart of one."""
        return super().rows_per_step // (self.learners if self.apart else 1)

    @property
    def all_actors(self) -> int:
        """Actors over all learners."""
        return self.num_actors * (self.learners if self.scaling == "weak" else 1)

    @property
    def trajectories_per_update(self) -> int:
        """Trajectories that an update of sync waits for."""
        return self.all_actors - self.drop_slowest

    @property
    def learner_envs(self) -> int:
        """Environments of a learner's share of a batch."""
        return self.trajectories_per_update * self.envs_per_actor // self.learners

    def __post_init__(self):
        super().__post_init__()
        require(self, ("learners", "learner_processes"), lambda x: x > 0, "must be above 0")
        require(self, ("learner_devices", "drop_slowest"), lambda x: x >= 0, "must be 0 or more")
        require(self, ("chunks", "skip_batches", "batches_per_visit"), lambda x: x > 0, "must be above 0")
        if self.apart:
            self._require_apart()
        else:
            self._require_shares()
            self._require_places()

    def _require_apart(self) -> None:
        """Actors that learners can have evenly, and nothing that takes one learner to see all batches."""
        if self.all_actors % self.learners:
            raise ConfigError(
                f"learners={self.learners} cannot have the num_actors={self.num_actors} actors evenly; make "
                f"--num-actors a multiple of {self.learners}, or use --scaling weak"
            )
        for name in ("normalise_obs", "normalise_reward", "layer_norms", "gradient_noise"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} needs a learner that sees all batches, and none does with optimisation="
                    f"{self.optimisation}; use sync"
                )
        for name, most in (("learner_processes", 1), ("learner_devices", 1), ("drop_slowest", 0)):
            if getattr(self, name) > most:
                raise ConfigError(
                    f"{name}={getattr(self, name)} is for optimisation=sync: with {self.optimisation} every learner is "
                    f"a worker of its own on one device; leave it out"
                )
        if self.sampler == "async":
            raise ConfigError(
                f"sampler='async' collects while its learner learns, with optimisation={self.optimisation} learners "
                "overlap with one another; use another --sampler"
            )

    def _require_shares(self) -> None:
        """Environments of a batch that learners can share evenly."""
        if self.drop_slowest >= self.all_actors:
            raise ConfigError(
                f"drop_slowest={self.drop_slowest} leaves none of {self.all_actors} actors to learn from; lower "
                "--drop-slowest or raise --num-actors"
            )
        if self.drop_slowest and self.sampler == "async":
            raise ConfigError(
                f"drop_slowest={self.drop_slowest} drops what comes late, which sampler='async' makes all of it; use "
                "another --sampler or drop_slowest 0"
            )
        if self.gradient_noise and self.learners < 2:
            raise ConfigError("gradient_noise compares the gradients of learners; raise --learners to 2 or more")
        envs = self.trajectories_per_update * self.envs_per_actor
        if envs % self.learners:
            raise ConfigError(
                f"learners={self.learners} cannot share the {envs} environments of a batch evenly; use a number of "
                "learners that divides them, or change --envs-per-actor"
            )

    def _require_places(self) -> None:
        """Processes and devices that can share the learners evenly."""
        places = self.learner_processes * max(1, self.learner_devices)
        if self.learners % places:
            raise ConfigError(
                f"learners={self.learners} cannot be spread evenly over learner_processes={self.learner_processes} "
                f"with learner_devices={self.learner_devices}; make --learners a multiple of {places}"
            )
        if self.learner_processes > 1 and (self.all_actors % self.learner_processes or self.drop_slowest):
            raise ConfigError(
                f"learner_processes={self.learner_processes} need as many actors each, and all of them; make "
                f"--num-actors a multiple of it (now {self.all_actors} in all) and drop_slowest 0"
            )


def make_spread(config: OptimisationConfig) -> Any:
    """How this process shares a batch out over learners and devices: those of all learner processes, where it has met
    them. Imports JAX.

    Raises: ConfigError where there are too few devices.
    """
    from shoal.learners.devices import devices_of_all, learner_devices
    from shoal.learners.spread import Spread

    if config.learner_processes > 1:
        return Spread(config.learners, devices_of_all(), noise=config.gradient_noise)
    devices = learner_devices(config.learners, config.learner_devices, cores())
    return Spread(config.learners, devices, noise=config.gradient_noise)


def prepare_devices(fields: Mapping[str, Any]) -> None:
    """Processors by the placement, shares of accelerators, and as many devices as the learners of a config will use.
    Imports JAX where they use several.

    Has to come before JAX starts, which importing an environment may do: so before anything is known but the fields
    that were given, which may be nonsense still; whoever checks them will say so.

    Raises: ConfigError for more devices than make sense, or processors that may not be used.
    """
    use_placement(fields)
    use_cards(fields)
    learners, asked = (_whole(fields.get(name)) for name in ("learners", "learner_devices"))
    if learners > 1 and fields.get("optimisation", "sync") == "sync" and _whole(fields.get("learner_processes")) <= 1:
        from shoal.learners.devices import make_devices

        make_devices(learners, asked, cores())


def _whole(value: Any) -> int:
    """A number that was given, maybe as a word; 0 for nonsense."""
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def require_processes_of_learners(config: Any, engine: str, order: str) -> None:
    """Raises ConfigError for learners in processes of their own on an engine that has none."""
    count = getattr(config, "learner_processes", 1)
    if count > 1 and (engine not in IN_PROCESSES or order != "free"):
        raise ConfigError(
            f"learner_processes={count} need processes that work at the same time; use --engine processes or ray, "
            "--order free, or several --learners in one process"
        )


def on_one_device(config: Any) -> Any:
    """The config for a process that does not train: it acts, and makes an agent for it, on whatever devices it has."""
    return replace(config, learner_devices=1) if hasattr(config, "learner_devices") else config


def cores() -> int:
    """Whole cores that this process may use."""
    return max(1, int(usable_cores()))
