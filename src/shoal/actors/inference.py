# SPDX-License-Identifier: Apache-2.0
"""The inference role: acts for all actors in batches, keeps each environment's memory and unfinished unroll, and hands
on what is finished.

In: requests of actors (`actors.served.Seen`), params. Out: actions; trajectories, whose params may have changed within.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from shoal import seeds
from shoal.actors.rollout import Assembler, Rows, new_columns
from shoal.actors.served import Seen, run_seed
from shoal.agents.host_policy import reset_memory
from shoal.engines import note, phase
from shoal.engines.wires.channel import Channel
from shoal.engines.wires.service import Request, Service
from shoal.engines.wires.store import Store
from shoal.trees import read_at, tree_map, write_at
from shoal.types import Array, PyTree, Trajectory


def infer(_index: int, config: Any, parts: Any, policy: Service, params: Store, trajectories: Channel) -> NoReturn:
    """The inference worker's life: take a batch, act under the newest params, answer, hand on finished unrolls.

    `config.forced_lag` holds the params back by that many versions, for studies of staleness.
    """
    server = Inference(config, parts)
    while True:
        requests = policy.take()
        server.use(*params.pull(behind=config.forced_lag))
        policy.reply(requests, phase("act", server.answer, requests))
        for trajectory in phase("assemble", server.finished):
            note(env_steps_generated=int(np.count_nonzero(trajectory.valid)), inference_batches=server.take_sizes())
            trajectories.put(trajectory, int(trajectory.version[0]))


class Inference:
    """What an inference worker knows: params, and a `Collected` for every actor.

    Noise is a pure function of seed, environment index and step, so batches change nothing but the last bits of heads.

    Check: with one actor and frozen params its trajectories are those of `Rollout`.
    """

    def __init__(self, config: Any, parts: Any):
        self._config, self._parts, self._agent = config, parts, parts.agent
        self._actors: dict[int, Collected] = {}
        self._version = -1
        self._bound: Any = None
        self._sizes: list[int] = []

    def use(self, params: Array, version: int) -> None:
        """Act under these params from here on."""
        if version != self._version:
            self._version, self._bound = version, phase("prepare", self._agent.bind, params)

    def answer(self, requests: Sequence[Request]) -> list[Array]:
        """Actions for each request, in their order: one pass over all environments of the batch."""
        asking = [self._collected(request) for request in requests]
        self._sizes.append(len(asking))
        obs, memory, noise = beside([(one.obs, one.memory, one.noise) for one in asking])
        action, head, memory = self._agent.act(self._bound, obs, memory, noise)
        answers, begin = [], 0
        for one in asking:
            part = slice(begin, begin + len(one.noise))
            one.acted(action[part], head[part], read_at(memory, part), (self._bound, self._version))
            answers.append(action[part])
            begin = part.stop
        return answers

    def finished(self) -> list[Trajectory]:
        """Trajectories of all unrolls that are complete by now."""
        return [one.complete.pop() for one in self._actors.values() if one.complete]

    def take_sizes(self) -> list[int]:
        """Requests in each batch since the last call."""
        sizes, self._sizes = self._sizes, []
        return sizes

    def _collected(self, request: Request) -> "Collected":
        """Where a request's run is kept, brought up to date with it. What an earlier run of the actor left unfinished
        is thrown away, so that no unroll mixes two."""
        one, seen = self._actors.get(request.index), request.item
        if one is None or one.epoch != request.epoch:
            one = self._actors[request.index] = Collected(self._config, self._parts, request)
        else:
            one.see(seen)
        return one


class Collected:
    """One run of one actor: the unroll under construction, and what is carried on from unroll to unroll.

    Args:
      request: the first of the run; or of those that come to a worker that was started anew, whose predecessor took
        memory and sums of the running episodes along: memory then starts anew, and those episodes are not counted.
    """

    def __init__(self, config: Any, parts: Any, request: Request):
        seen, self.epoch = request.item, request.epoch
        self._agent, self._spec, self._length = parts.agent, parts.spec, config.unroll_length
        self._seed = run_seed(parts.seed, request.epoch)
        self._indices = request.index * config.envs_per_actor + np.arange(config.envs_per_actor)
        self._initial = self.memory = self._agent.memory(config.envs_per_actor)
        discount = config.discount if config.normalise_reward else None
        self._assembler = Assembler(self._spec.id, self._indices, self._seed, discount, seen.opening or None)
        self._cut_off = np.full(config.envs_per_actor, seen.step > 0)
        self._step = seen.step
        self.complete: list[Trajectory] = []
        self._begin(seen.obs)

    @property
    def obs(self) -> PyTree:
        """What to act on, [B, ...]: a view of the rows."""
        return read_at(self._rows.obs, self._t)

    @property
    def noise(self) -> Array:
        """[B, noise_size] to act with."""
        return self._rows.noise[self._t]

    def acted(self, action: Array, head: Array, memory: PyTree, policy: tuple[Any, int]) -> None:
        """Store what was answered for the current observations, by which bound params of which version."""
        self._rows.action[self._t], self._rows.head[self._t], self.memory = action, head, memory
        if not self._policies or self._policies[-1][1][1] != policy[1]:
            self._policies.append((self._t, policy))

    def see(self, seen: Seen) -> None:
        """Store what the answer led to; the unroll may be complete with it."""
        rows, t = self._rows, self._t
        write_at(rows.obs, t + 1, seen.obs)
        rows.reward[t], rows.terminated[t] = seen.reward, seen.terminated
        rows.truncated[t], rows.valid[t] = seen.truncated, seen.valid
        if self._agent.recurrent and not seen.valid.all():
            self.memory = reset_memory(self.memory, seen.valid, self._initial)
        self._t, self._step = t + 1, seen.step
        if self._t == self._length:
            self.complete.append(self._assembled())
            self._begin(seen.obs)

    def _begin(self, obs: PyTree) -> None:
        draw = seeds.gumbels if self._agent.noise == "gumbel" else seeds.normals
        noise = draw(self._seed, "act", self._indices, self._step, self._length, self._agent.noise_size)
        self._rows = Rows(new_columns(self._spec, self._length, len(self._indices)), noise, self._agent.head_size)
        write_at(self._rows.obs, 0, obs)
        self._t, self._memory_before = 0, self.memory
        self._policies: list[tuple[int, tuple[Any, int]]] = []

    def _assembled(self) -> Trajectory:
        """The unroll as a trajectory. Its version is that of the oldest params that acted in it."""
        rows, policies = self._rows, self._policies
        ends = [begin for begin, _ in policies[1:]] + [self._length]
        log_prob = np.concatenate(
            [
                self._agent.log_prob(bound, rows.head[begin:end], rows.action[begin:end])
                for (begin, (bound, _)), end in zip(policies, ends, strict=True)
            ]
        )
        oldest = min(version for _, (_, version) in policies)
        made = self._assembler.trajectory(rows, log_prob, self._memory_before, oldest, self._step)
        return made if not self._cut_off.any() else self._without_cut_off(made)

    def _without_cut_off(self, made: Trajectory) -> Trajectory:
        """The trajectory without the first end of each environment whose episode was not seen from its beginning."""
        ended = np.logical_or(made.terminated, made.truncated)
        first = self._cut_off & ended & (np.cumsum(ended, axis=0) == 1)
        self._cut_off = self._cut_off & ~ended.any(axis=0)
        return made._replace(
            episode_return=np.where(first, np.float32(np.nan), made.episode_return),
            episode_length=np.where(first, 0, made.episode_length),
        )


def beside(parts: list[PyTree]) -> PyTree:
    """Trees of arrays [B, ...] joined along B; a single one as it is."""
    if len(parts) == 1:
        return parts[0]
    return tree_map(lambda *leaves: np.concatenate(leaves), *parts)
