# SPDX-License-Identifier: Apache-2.0
"""CPU-parallel sampling: workers hold a copy of the params, infer themselves, and write into one shared buffer.

Two barriers a batch: params and go one way, all written the other. Nothing crosses at a step, so it suits small
networks and quick environments; each worker infers for its own share only.
"""

import contextlib
import select
from typing import Any, NamedTuple

import numpy as np

from shoal import seeds
from shoal.actors.samplers import hands
from shoal.actors.samplers.buffers import Buffer, Buffers, size_of, unroll_forms
from shoal.engines import note, phase
from shoal.envs.pool.watched import Watched
from shoal.errors import ConfigError
from shoal.processes import codec, launch, limits, status
from shoal.processes.link import Hangup
from shoal.processes.memory import Segment
from shoal.processes.stillness import Deadline, Every
from shoal.types import Array, Trajectory

PRELOAD = ("gymnasium", "shoal.envs.single", "shoal.architectures.assemble", hands.__name__)
PRELOAD_JAX = ("jax", "equinox", "optax", "shoal.agents.actor_critic")
LOOK_S = 0.05
"""seconds between looks at workers that may hang"""
CLOSE_S = 1.5
"""seconds that workers have to close their environments"""


class Go(NamedTuple):
    """What the workers are told of an unroll."""

    buffer: Buffer
    keep: list[int]
    """numbers of the buffers that are still there"""
    version: int


class Hand(Watched):
    """A worker as the sampler sees it; `start` may be called again when its process has ended."""

    def __init__(self, sampler: "ParallelSampler", slots: slice, number: int):
        first, size = sampler.first_index + slots.start, slots.stop - slots.start
        super().__init__(sampler.spec.id, first, size, "an unroll of its own", number)
        self.slots, self._sampler = slots, sampler
        self.unrolls = 0
        self.start()

    def start(self) -> None:
        """A new process, which opens new episodes. Its seed is a function of the sampler's and its restarts."""
        sampler = self._sampler
        self.seed = seeds.derive(sampler.seed, "restart", self.restarts) if self.restarts else sampler.seed
        header = {
            "slots": [self.slots.start, self.slots.stop],
            "first_index": sampler.first_index,
            "envs": sampler.num_envs,
            "seed": self.seed,
        }
        self.launch(hands.ENTRY, header, [])
        self.opened = self.busy = False
        self._known: set[int] = set()
        self._has_params = False
        with contextlib.suppress(Hangup):  # it has ended already, which the link will tell again
            self.link.send({"form": sampler.form}, sampler.recipe)

    def go(self, go: Go, params: Segment) -> None:
        """Have it unroll into its part of a buffer."""
        header: dict[str, Any] = {
            "go": go.buffer.number, "keep": go.keep, "length": go.buffer.length, "version": go.version,
            "params": 0, "size": 0,
        }  # fmt: skip
        descriptors = []
        if not self._has_params:
            header["params"] = params.size // 4
            descriptors.append(params.descriptor)
        if go.buffer.number not in self._known:
            header["size"] = go.buffer.segment.size
            descriptors.append(go.buffer.segment.descriptor)
        self._known = self._known & set(go.keep) | {go.buffer.number}
        self._has_params = self.busy = True
        self.begin()
        with contextlib.suppress(Hangup):
            self.link.send(header, descriptors=descriptors)

    def where(self) -> str:
        return f"seed {self.seed}, unroll {self.unrolls + 1}" if self.opened else "being made"


class ParallelSampler:
    """The environments of one actor in `config.env_workers` workers that act in them.

    Where a worker dies its part of the unroll is made anew, by a new process from new episodes: nothing of what it had
    written is used. Three deaths in a row, or a step longer than `config.step_timeout`, raise an EnvironmentFault that
    names the environment.

    Check: trajectories are those of `Rollout`, and one that is kept stays as it was.
    """

    def __init__(self, config: Any, parts: Any, *, seed: int, first_index: int):
        if parts.recipe is None:
            raise ConfigError(
                f"sampler=parallel needs names that lead to environment and network of {parts.spec.id}; put them into "
                "a module of its own, or use another sampler"
            )
        self.spec, self.num_envs, self.seed, self.first_index = parts.spec, config.envs_per_actor, seed, first_index
        self._agent, self._step_timeout = parts.agent, config.step_timeout
        self._discounted = config.normalise_reward
        packed = codec.pack((config, parts))
        memory = np.zeros(packed.nbytes, np.uint8)
        codec.write(packed, memory)
        self.form, self.recipe = packed.form, memory.tobytes()
        self._buffers, self._params = Buffers(), None
        self._hands: list[Hand] = []
        self._reports: list[str] = []
        self._go: Go | None = None
        self._look, self._closed = Every(LOOK_S), False
        self._epoll = select.epoll()
        try:
            self._start(config.env_workers)
        except BaseException:
            self.close()
            raise

    def unroll(self, params: Array, version: int, length: int) -> Trajectory:
        """`length` steps of every environment under params published as `version`: arrays [T, B, ...].

        They lie in shared memory that is used again when the last reference to any of them is gone.
        """
        forms = unroll_forms(
            self.spec, self._agent.memory(1), length, self.num_envs, discounted=self._discounted
        )  # fmt: skip
        buffer = self._buffers.free(length, size_of(forms))
        phase("prepare", self._begin, Go(buffer, [b.number for b in self._buffers.all], version), params)
        phase("rollout", self._finish)
        trajectory = buffer.lend(forms)._replace(version=np.full(self.num_envs, version, np.int64))
        note(env_steps_generated=int(np.count_nonzero(trajectory.valid)))
        reports, self._reports = self._reports, []
        for line in reports:
            note(env_worker_restarted=line)
        return trajectory

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [hand.child.pid for hand in self._hands]

    def close(self) -> None:
        """End the workers; trajectories that were handed on stay."""
        if self._closed:
            return
        self._closed = True
        for hand in self._hands:
            with contextlib.suppress(Hangup):
                hand.link.send({"close": True})
        deadline = Deadline(CLOSE_S)
        for hand in self._hands:
            hand.child.wait(deadline.left())
            hand.child.close()
        self._epoll.close()

    def _start(self, workers: int) -> None:
        """Start all workers, then wait until each has opened its episodes."""
        limits.require_files(workers)
        launch.shared().preload((*PRELOAD, *(PRELOAD_JAX if self._agent.compiled else ())))
        bounds = np.linspace(0, self.num_envs, workers + 1).astype(int).tolist()
        number = self.first_index // self.num_envs * workers
        for i, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
            hand = Hand(self, slice(start, stop), number + i)
            self._hands.append(hand)
            self._epoll.register(hand.link.fileno(), select.EPOLLIN)
        while not all(hand.opened for hand in self._hands):
            self._wait()

    def _begin(self, go: Go, params: Array) -> None:
        """The first barrier: params, then go."""
        params = np.asarray(params)
        if self._params is None:
            self._params = Segment.create(4 * params.size, "params of workers")
        self._params.array(params.shape, np.float32)[:] = params
        self._go = go
        for hand in self._hands:
            hand.go(go, self._params)

    def _finish(self) -> None:
        """The second barrier: all have written."""
        while any(hand.busy for hand in self._hands):
            self._wait()
        self._go = None

    def _wait(self) -> None:
        """Until something happens, for a short while at most."""
        for descriptor, _ in self._epoll.poll(LOOK_S):
            self._listen(next(hand for hand in self._hands if hand.link.fileno() == descriptor))
        if self._look.due():
            if status.mine is not None:
                status.mine.go_on()
            for hand in self._hands:
                hand.look(self._step_timeout, busy=hand.busy or not hand.opened)

    def _listen(self, hand: Hand) -> None:
        """To one worker: its episodes are open, its part is written, something was raised, or it has ended."""
        try:
            message = hand.link.receive()
        except Hangup:
            self._replace(hand)
            return
        if "error" in message.header:
            raise hand.fault_in(message)
        if "made" in message.header:
            hand.opened = True
            hand.made = not self._agent.compiled  # which is compiled in the first unroll
        else:
            hand.busy, hand.strikes, hand.made = False, 0, True
            hand.unrolls += 1

    def _replace(self, hand: Hand) -> None:
        """Start a worker anew that has ended. Raises EnvironmentFault where that would not help."""
        self._reports.append(hand.lost(self._step_timeout))
        busy = hand.busy
        self._epoll.unregister(hand.link.fileno())
        hand.child.close()
        hand.restarts += 1
        hand.start()
        self._epoll.register(hand.link.fileno(), select.EPOLLIN)
        if busy and self._go is not None and self._params is not None:
            hand.go(self._go, self._params)
